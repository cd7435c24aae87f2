;; Computes for ever and never calls the host.
(module
  (memory (export "memory") 1)
  (func $spin (export "_start") (loop $again (br $again))))
