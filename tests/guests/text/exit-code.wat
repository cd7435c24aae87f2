;; Ends by proc_exit with the number in its last argument, any of 32 bits; without arguments with its count, 0 or 1.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (local $count i32) (local $at i32) (local $byte i32) (local $number i32)
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (local.set $count (i32.load (i32.const 0)))
    (if (i32.lt_u (local.get $count) (i32.const 2))
      (then (call $proc_exit (local.get $count))))
    ;; Pointers to the arguments from 64, their text from 4096.
    (drop (call $args_get (i32.const 64) (i32.const 4096)))
    (local.set $at (i32.load (i32.add (i32.const 60) (i32.mul (local.get $count) (i32.const 4)))))
    (block $end
      (loop $digit
        (local.set $byte (i32.load8_u (local.get $at)))
        (br_if $end (i32.eqz (local.get $byte)))
        (local.set $number
          (i32.add (i32.mul (local.get $number) (i32.const 10)) (i32.sub (local.get $byte) (i32.const 48))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $digit)))
    (call $proc_exit (local.get $number))))
