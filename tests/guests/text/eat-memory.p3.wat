;; A command of WASI 0.3 that writes to memory until it is refused (then it ends with 1) or killed.
(component
    (core module $m
        (memory 1)
        (func (export "run") (result i32) (local $at i32)
            (loop $more
                (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 1))))
                (memory.fill (local.get $at) (i32.const 1) (i32.const 65536))
                (local.set $at (i32.add (local.get $at) (i32.const 65536)))
                (br $more))
            unreachable))
    (core instance $i (instantiate $m))
    (func $run async (result (result)) (canon lift (core func $i "run")))
    (instance $run' (export "run" (func $run)))
    (export "wasi:cli/run@0.3.0" (instance $run')))
