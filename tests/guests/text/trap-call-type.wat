;; Traps: an indirect call of a function that has another type.
(module
  (memory (export "memory") 1)
  (type $number (func (result i32)))
  (table 1 funcref)
  (elem (i32.const 0) $nothing)
  (func $nothing)
  (func $call (result i32) (call_indirect (type $number) (i32.const 0)))
  (func (export "_start") (drop (call $call))))
