;; A component that asks for an interface that no host here has: `acme:mystery/oracle@1.0.0`.
(component
  (import "acme:mystery/oracle@1.0.0" (instance (export "ask" (func (result u32))))))
