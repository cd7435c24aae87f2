;; Traps two calls deep. The name section, which the `$` names make, is what the backtrace in the pod's status shows.
(module $crash
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "about to divide by zero\n")
  (func $divide (param $dividend i32) (param $divisor i32) (result i32)
    (i32.div_s (local.get $dividend) (local.get $divisor)))
  (func $average_of_nothing (result i32)
    (call $divide (i32.const 42) (i32.const 0)))
  (func $start (export "_start")
    ;; One buffer: its address and its length.
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const 24))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $average_of_nothing))))
