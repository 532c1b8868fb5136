"""WASM modules that are unit programs, in text form."""

from __future__ import annotations

from typing import Final

import wasmtime


def binary(text: str) -> bytes:
    """A module as files hold it."""
    return bytes(wasmtime.wat2wasm(text))


CHAIN: Final = """
(module
  (memory (export "memory") 2 2)
  (global (export "seed") i32 (i32.const 64))
  (global $scratch (mut i32) (i32.const 7))
  (func (export "init") (param $chunk i32)
    (i64.store (i32.const 0) (i64.xor (i64.load (i32.const 64)) (i64.extend_i32_u (local.get $chunk)))))
  (func (export "step") (param $index i32) (result i32) (local $i i32)
    (local.set $i (i32.const 5000))
    (loop $again
      (i64.store (i32.const 0)
        (i64.add (i64.mul (i64.load (i32.const 0)) (i64.const 6364136223846793005))
                 (i64.extend_i32_u (i32.add (local.get $index) (global.get $scratch)))))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $again (local.get $i)))
    (global.set $scratch (i32.const 99))
    (f32.store (i32.const 65536) (f32.div (f32.const 0) (f32.const 0)))
    (i32.const 0)))
"""
"""5000 multiplications a unit; a global that a second call in one instance would see changed; a NaN on page two."""


def halting(unit: int, pages: int = 2, first: int = 1) -> str:
    """A module that never ends this unit; -1: it ends them all. The fuel of every other unit is the same for each.
    `first`: what its first state holds; the job's seed says nothing in it."""
    return f"""
    (module
      (memory (export "memory") {pages} {pages})
      (func (export "init") (param $chunk i32) (i64.store (i32.const 0) (i64.const {first})))
      (func (export "step") (param $index i32) (result i32)
        (if (i32.eq (local.get $index) (i32.const {unit})) (then (loop $for_ever (br $for_ever))))
        (i64.store (i32.const 0)
          (i64.add (i64.mul (i64.load (i32.const 0)) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
        (i64.store (i32.mul (i32.and (local.get $index) (i32.const 1)) (i32.const 65536)) (i64.load (i32.const 0)))
        (i32.const 0)))
    """


def step(body: str, memory: str = "1 1") -> str:
    """A module whose `step` has this body."""
    return f'(module (memory (export "memory") {memory}) (func (export "step") (param $index i32) (result i32) {body}))'
