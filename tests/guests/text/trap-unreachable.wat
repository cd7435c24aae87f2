;; Writes a line, then traps: unreachable, three named frames deep.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\10\00\00\00before the trap\n")
  (func $inner (unreachable))
  (func $middle (call $inner))
  (func $outer (call $middle))
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (call $outer)))
