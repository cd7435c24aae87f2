;; Asks for a function that no host here has: `env.mystery`. To be refused by name when its image is pulled.
(module
  (import "env" "mystery" (func $mystery (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $mystery (i32.const 1)))))
