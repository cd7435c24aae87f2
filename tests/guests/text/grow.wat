;; Grows its memory a page at a time, writing to each, until it is refused or killed; refused, it ends with code 3.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $grow (export "_start")
    (local $page i32)
    (loop $more
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.eq (local.get $page) (i32.const -1))
        (then (call $proc_exit (i32.const 3))))
      (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (i32.store offset=32768 (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (i32.store offset=4096 (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (br $more))))
