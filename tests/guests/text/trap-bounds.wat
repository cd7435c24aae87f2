;; Traps: a load beyond the end of its one page of memory.
(module
  (memory (export "memory") 1)
  (func $beyond (param $at i32) (result i32) (i32.load (local.get $at)))
  (func (export "_start") (drop (call $beyond (i32.const 65536)))))
