"""YAML as a tree that remembers where everything stands, with the dangerous half of YAML refused.

Refused: anchors and aliases (bombs), tags, several documents, merge keys, duplicate keys, tabs as indentation, deep
nesting, control characters. Scalars stay text: what a key means decides how its text is read, so `3.10`, `no` and
`1e-3` arrive as written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import yaml

from protocol.errors import Refused

TEXT_BYTES_MAX: Final = 65_536
"""Job files and scenarios are written by hand; data belongs into files beside them."""

DEPTH_MAX: Final = 8
"""Nesting: a job file needs 4, a scenario 6."""

NODES_MAX: Final = 20_000
"""Values in one file: 4096 chunks with a few variables each."""


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a named text, counted from 1 as editors do."""

    file: str
    line: int
    column: int
    code: str = "bad_job_file"
    """What a refusal of something in this file is called, unless it has a name of its own."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class _Mark(Protocol):
    """What PyYAML's positions have, whichever of its scanners made them; counted from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text as written; `is_plain` when it stood without quotes."""

    place: Place
    text: str
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    values: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A map, in the order written."""

    place: Place
    values: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Items | Pairs


def wrong(place: Place, key: str, detail: str, fix: str, code: str = "") -> Refused:
    """The refusal of one place in a file. `key` is its path, such as `resources.gpu`."""
    where = f"{place}: {key}: " if key else f"{place}: "
    numbers: dict[str, int | str] = {"file": place.file, "line": place.line, "column": place.column, "key": key}
    return Refused(where + detail, code=code or place.code, fix=fix, numbers=numbers)


def parse(text: str, file: str, code: str = "bad_job_file", first: str = "type: task") -> Node:
    """The tree of one YAML document; `Refused` (code `bad_yaml` or `over_limit`) names file:line:column. What is found
    wrong with a value later is called `code`; `first` is how such a file begins."""
    start = Place(file, 1, 1, code)
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES_MAX:
        detail = f"{size} bytes of YAML, at most {TEXT_BYTES_MAX} are read"
        raise wrong(start, "", detail, "Move data into files beside it.", code="over_limit")
    try:
        _refuse_features(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, file) from error
    except yaml.YAMLError as error:
        raise wrong(start, "", f"not YAML: {error}", "Save the file as UTF-8 text.", code="bad_yaml") from error
    if node is None:
        raise wrong(start, "", "the file is empty", f"Begin with `{first}`.", code="bad_yaml")
    return _converted(node, start, "")


def _refuse_features(text: str, file: str) -> None:
    """Walk the events before anything is built from them."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = _place(event.start_mark, file)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise wrong(
                place, "", "anchors and aliases (& and *) are not read", "Write the value out.", code="bad_yaml"
            )
        if getattr(event, "tag", None) is not None:
            raise wrong(place, "", "tags (!) are not read", "Quote the text if it begins with `!`.", code="bad_yaml")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise wrong(place, "", "a second document begins here", "Write one document per file.", code="bad_yaml")
        nodes += isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise wrong(place, "", f"nested deeper than {DEPTH_MAX}", "Flatten the file.", code="over_limit")
        if nodes > NODES_MAX:
            raise wrong(
                place,
                "",
                f"more than {NODES_MAX} values",
                "Say it with fewer values.",
                code="over_limit",
            )


def _converted(node: yaml.Node, start: Place, path: str) -> Node:
    place = Place(start.file, node.start_mark.line + 1, node.start_mark.column + 1, start.code)
    if isinstance(node, yaml.ScalarNode):
        return Scalar(place, node.value, node.style is None)
    if isinstance(node, yaml.SequenceNode):
        return Items(place, tuple(_converted(item, start, f"{path}[{i}]") for i, item in enumerate(node.value)))
    seen: dict[str, Place] = {}
    pairs: list[tuple[Scalar, Node]] = []
    for key, value in node.value:
        name = _converted(key, start, path)
        if not isinstance(name, Scalar) or name.text == "<<":
            raise wrong(name.place, path, "a key is a plain word", "Write `key: value`.", code="bad_yaml")
        full = f"{path}.{name.text}" if path else name.text
        if name.text in seen:
            detail = f"the key is there twice, first in line {seen[name.text].line}"
            raise wrong(name.place, full, detail, "Keep one of them.", code="bad_yaml")
        seen[name.text] = name.place
        pairs.append((name, _converted(value, start, full)))
    return Pairs(place, tuple(pairs))


def _place(mark: _Mark | None, file: str) -> Place:
    if mark is None:
        return Place(file, 1, 1)
    return Place(file, mark.line + 1, mark.column + 1)


def _syntax(error: yaml.MarkedYAMLError, file: str) -> Refused:
    mark = error.problem_mark or error.context_mark
    place = _place(mark, file)
    detail = " ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in detail:
        return wrong(place, "", "a tab is used as indentation", "Indent with spaces.", code="bad_yaml")
    if "mapping values are not allowed" in detail:
        return wrong(place, "", "a `:` where no key can be", "Quote text that has `: ` in it.", code="bad_yaml")
    return wrong(place, "", f"not YAML: {detail}", "Check indentation, quotes and brackets.", code="bad_yaml")
