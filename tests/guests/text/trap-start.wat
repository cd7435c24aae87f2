;; Traps in the module's start function: before `_start` is called, while the guest is being instantiated.
(module
  (memory (export "memory") 1)
  (func $initialise (unreachable))
  (start $initialise)
  (func (export "_start")))
