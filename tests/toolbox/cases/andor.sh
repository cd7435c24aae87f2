true && echo a || echo b; false && echo c || echo d; true || echo e; false || false || echo f; ! true; echo $?; ! false && echo g
