;; A pod that does nothing for ever: the smallest thing that stays. It shows what a pod costs by itself.
;; It says so in one line, then waits on the clock an hour at a time; it takes no CPU time while it waits.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  ;; 16 pages of 64 KiB: 1 MiB.
  (memory (export "memory") 16)
  ;; An iovec {address 16, length 5}, and the text.
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "idle\n")
  ;; A subscription of 48 bytes: userdata 0, tag 0 (clock), clock 1 (monotonic), timeout 3600 s in nanoseconds.
  (data (i32.const 80) "\01\00\00\00")
  (data (i32.const 88) "\00\a0\b8\30\46\03\00\00")
  (func $idle (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $wait
      (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192)))
      (br $wait))))
