;; Traps: an integer divided by zero.
(module
  (memory (export "memory") 1)
  (func $divide (param $by i32) (result i32) (i32.div_s (i32.const 7) (local.get $by)))
  (func (export "_start") (drop (call $divide (i32.load (i32.const 0))))))
