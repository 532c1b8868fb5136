;; The smallest job there is: starts, does nothing, ends well. For measuring everything around the work.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
