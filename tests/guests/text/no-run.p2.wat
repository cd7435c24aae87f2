;; A valid component that is no command: it exports nothing, above all no `wasi:cli/run`.
(component)
