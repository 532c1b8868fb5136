"""What a job file runs: its runtime, command lines, chunks and variables."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protocol import yaml_values
from protocol.jobrules import IMAGE_PREFIX, RESERVED_ENV_PREFIX, RUNTIMES
from protocol.jobspec import CHUNKS_MAX, COMMAND_CHARS_MAX, Chunk
from protocol.yaml_nodes import Items, Node, Pairs, Place, Scalar, wrong

PYTHON_VERSION: Final = "3.11"
"""What the `python` runtime is; another version comes as an image."""

LINES_MAX: Final = 32
VARIABLES_MAX: Final = 64
VALUE_CHARS_MAX: Final = 4096

NAME_FORM: Final = "a name such as my-job"
VALUE_FORM: Final = "a value"
LINES_FORM: Final = "a list of command lines"
CHUNKS_FORM: Final = f"a number of chunks from 1 to {CHUNKS_MAX}, or a list of maps of variables"

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
Env = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, and the WASM modules (node, key) that must be sent for it."""

    runtime: str
    commands: tuple[str, ...]
    reduce: tuple[str, ...]
    modules: tuple[tuple[Node, str], ...]


def read_program(top: Mapping[str, Node], start: Place) -> Program:
    """Runtime and lines from `runtime`, `python`, `image` or `wasm`, `commands` and `reduce`."""
    chosen = [key for key in ("runtime", "python", "image", "wasm") if key in top]
    if len(chosen) > 1:
        detail = f"expected one of runtime, python, image and wasm, found {' and '.join(chosen)}"
        raise wrong(top[chosen[1]].place, chosen[1], detail, f"Keep `{chosen[0]}`, or `{chosen[1]}`.")
    if chosen == ["wasm"]:
        return _wasm_program(top)
    if "commands" not in top:
        fix = "Add `commands: [python main.py]`."
        raise wrong(start, "commands", f"expected {LINES_FORM}, found nothing", fix, code="missing_key")
    commands = read_lines(top["commands"], "commands")
    reduce = read_lines(top["reduce"], "reduce") if "reduce" in top else ()
    return Program(_runtime(top, chosen[0]) if chosen else "python", commands, reduce, ())


def _runtime(top: Mapping[str, Node], key: str) -> str:
    node = top[key]
    if key == "python":
        if yaml_values.word(node, key, f'"{PYTHON_VERSION}"') != PYTHON_VERSION:
            fix = f"The python runtime is {PYTHON_VERSION}; bring another one as `image: python:3.12-slim`."
            raise yaml_values.mismatch(node, key, f'"{PYTHON_VERSION}"', fix)
        return "python"
    if key == "image":
        return IMAGE_PREFIX + _image(node, key)
    text = yaml_values.word(node, key, f"one of {', '.join(RUNTIMES)}")
    if text == "wasm":
        raise yaml_values.mismatch(node, key, "`wasm: module.wasm` instead", "Write `wasm: module.wasm arguments`.")
    if text not in RUNTIMES:
        fix = yaml_values.unknown(text, RUNTIMES, "For anything else use `image:`.")
        raise yaml_values.mismatch(node, key, f"one of {', '.join(RUNTIMES)}", fix)
    return text


def _image(node: Node, key: str) -> str:
    expected = "an image's reference such as python:3.12-slim"
    text = yaml_values.word(node, key, expected)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}", text):
        raise yaml_values.mismatch(node, key, expected, "Write it as `docker pull` takes it.")
    return text


def _wasm_program(top: Mapping[str, Node]) -> Program:
    if "commands" in top:
        fix = "Put the arguments behind the module: `wasm: module.wasm 1000`."
        raise wrong(top["commands"].place, "commands", "a wasm job has no shell and no commands", fix)
    modules: list[tuple[Node, str]] = []
    lines: dict[str, tuple[str, ...]] = {"wasm": (), "reduce": ()}
    for key in lines:
        if key in top:
            line = _wasm_line(top[key], key)
            lines[key] = (line,)
            modules.append((Scalar(top[key].place, shlex.split(line)[0], True), key))
    return Program("wasm", lines["wasm"], lines["reduce"], tuple(modules))


def _wasm_line(node: Node, key: str) -> str:
    expected = "a module and its arguments, such as primes.wasm 1000"
    if isinstance(node, Items) and len(node.values) == 1:
        node = node.values[0]
    try:
        words = shlex.split(_line(node, key, expected))
    except ValueError as error:
        raise yaml_values.mismatch(node, key, expected, f"The line cannot be split into words: {error}.") from error
    if not words or not words[0].endswith(".wasm"):
        raise yaml_values.mismatch(node, key, expected)
    return shlex.join((words[0].removeprefix("./"), *words[1:]))


def read_lines(node: Node, key: str) -> tuple[str, ...]:
    """Command lines: a list of texts, or one text."""
    if isinstance(node, Scalar):
        return (_line(node, key, LINES_FORM),)
    lines = tuple(
        _line(item, f"{key}[{i}]", "a command line") for i, item in enumerate(yaml_values.items(node, key, LINES_FORM))
    )
    if not 1 <= len(lines) <= LINES_MAX:
        raise yaml_values.mismatch(node, key, f"1 to {LINES_MAX} command lines", "Put a long program into a script.")
    return lines


def _line(node: Node, key: str, expected: str) -> str:
    text = yaml_values.word(node, key, expected).strip()
    if not text or "\0" in text or len(text) > COMMAND_CHARS_MAX:
        fix = f"A line has 1 to {COMMAND_CHARS_MAX} characters; put a long program into a script."
        raise yaml_values.mismatch(node, key, expected, fix)
    return text


def read_chunks(top: Mapping[str, Node]) -> tuple[Chunk, ...]:
    """The independent pieces: `chunks: N`, `chunks: [{A: 1}, …]` or `matrix: {A: [1, 2], B: [x, y]}`; one without."""
    if "chunks" in top and "matrix" in top:
        raise wrong(top["matrix"].place, "matrix", "`chunks` is there too", "Keep `matrix`, or list the chunks.")
    if "matrix" in top:
        return _matrix(top["matrix"])
    if "chunks" not in top:
        return (Chunk(),)
    node = top["chunks"]
    if isinstance(node, Scalar):
        if not re.fullmatch(r"[0-9]{1,9}", node.text) or not 1 <= int(node.text) <= CHUNKS_MAX:
            raise yaml_values.mismatch(node, "chunks", CHUNKS_FORM)
        return tuple(Chunk() for _ in range(int(node.text)))
    entries = yaml_values.items(node, "chunks", CHUNKS_FORM)
    if not 1 <= len(entries) <= CHUNKS_MAX:
        raise wrong(node.place, "chunks", f"expected {CHUNKS_FORM}, found {len(entries)} entries", "List 1 or more.")
    return tuple(Chunk(env=_variables(entry, f"chunks[{i}]")) for i, entry in enumerate(entries))


def _matrix(node: Node) -> tuple[Chunk, ...]:
    """Every combination; the last variable changes fastest."""
    axes: list[list[tuple[str, str]]] = []
    for name, values in yaml_values.pairs(node, "matrix").items():
        key = f"matrix.{name}"
        _check_variable(name, node, key)
        entries = yaml_values.items(values, key, "a list of values")
        if not entries:
            raise yaml_values.mismatch(values, key, "a list of at least one value")
        axes.append([(name, _value(entry, f"{key}[{i}]")) for i, entry in enumerate(entries)])
    total = math.prod(len(axis) for axis in axes)
    if not axes or total > CHUNKS_MAX:
        detail = f"expected 1 to {CHUNKS_MAX} combinations, found {total if axes else 0}"
        raise wrong(node.place, "matrix", detail, "Give each variable a list of values.", code="over_limit")
    return tuple(Chunk(env=combination) for combination in itertools.product(*axes))


def read_env(node: Node, key: str, environ: Mapping[str, str]) -> Env:
    """Variables of every chunk: a map, or a list of `NAME=value` and `NAME` (the submitter's own)."""
    if isinstance(node, Pairs):
        return _variables(node, key)
    pairs: dict[str, str] = {}
    for index, entry in enumerate(yaml_values.items(node, key, "a map of variables, or a list of NAME=value")):
        where = f"{key}[{index}]"
        name, equals, value = yaml_values.scalar(entry, where, "NAME=value or NAME").partition("=")
        _check_variable(name, entry, where)
        if name in pairs:
            raise wrong(entry.place, where, f"{name} is set twice", "Keep one of them.")
        if not equals and name not in environ:
            fix = f"Run `export {name}=…` first, or write `{name}=value`."
            raise wrong(entry.place, where, f"{name} is not set in your environment", fix, code="env_missing")
        pairs[name] = _bounded(value if equals else environ[name], entry, where)
    return _counted(tuple(pairs.items()), node, key)


def _variables(node: Node, key: str) -> Env:
    entries = yaml_values.pairs(node, key)
    for name, value in entries.items():
        _check_variable(name, value, f"{key}.{name}")
    return _counted(tuple((name, _value(value, f"{key}.{name}")) for name, value in entries.items()), node, key)


def _counted(pairs: Env, node: Node, key: str) -> Env:
    if len(pairs) > VARIABLES_MAX:
        raise wrong(node.place, key, f"{len(pairs)} variables, at most {VARIABLES_MAX} are allowed", "Use a file.")
    return pairs


def _check_variable(name: str, node: Node, key: str) -> None:
    if not _VARIABLE.fullmatch(name):
        fix = "A name has letters, digits and _, up to 64, and begins with no digit."
        raise wrong(node.place, key, f"`{name:.60}` is no name of a variable", fix)
    if name.startswith(RESERVED_ENV_PREFIX):
        raise wrong(node.place, key, f"{name} is set by the sandbox", f"Do not begin with {RESERVED_ENV_PREFIX}.")


def _value(node: Node, key: str) -> str:
    """A variable's value is text, taken exactly as written: `1e-3` stays `1e-3`, `yes` stays `yes`."""
    return _bounded(yaml_values.scalar(node, key, VALUE_FORM), node, key)


def _bounded(text: str, node: Node, key: str) -> str:
    if len(text) > VALUE_CHARS_MAX or "\0" in text:
        detail = f"a value of {len(text)} characters, at most {VALUE_CHARS_MAX} and no zero byte are allowed"
        raise wrong(node.place, key, detail, "Put data into a file.", code="over_limit")
    return text
