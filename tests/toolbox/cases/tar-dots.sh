mkdir -p d out/in; echo evil > evil; cd d; tar cf ../x.tar ../evil 2>/dev/null; cd ../out/in; rm -f ../../evil; tar xf ../../x.tar 2>/dev/null; [ -e ../evil ] && echo escaped; ls ..
