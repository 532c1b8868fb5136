"""Values of a scenario that have parts: last miles, arrivals, distributions of times, maps, sections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, cast

import msgspec

from protocol.yaml_nodes import Node, wrong
from protocol.yaml_values import is_number, mismatch, pairs, scalar
from simulations import quantities
from simulations.quantities import Plain, Quantity
from simulations.scenario import Arrival, Duration, Pipe

PIPE_FORM: Final = "a last mile such as 80%x50Mbit/20Mbit (share x down/up), or 0.2x1Gbit"
ARRIVAL_FORM: Final = "an arrival such as `poisson 20/h`, `regular 6/m` or `burst 10 20/h` (in crowds of 10)"
TIMES_FORM: Final = "a time such as 90s, or a distribution such as `lognormal 90s 0.6` or `exponential 90s`"

_PIPE: Final = re.compile(r"([^x]+?)\s*x\s*([^/]+?)(?:\s*/\s*(.+))?")
_BURST: Final = re.compile(r"burst\s+(\d{1,6})\s+(\S+)")
_TIMES: Final = re.compile(r"(?:(fixed|exponential|lognormal)\s+)?(\S+)(?:\s+(\S+))?")
SIGMA_MAX: Final = 10.0
"""Of a lognormal: at 10 the mean is e^50 medians, which nobody means."""


def _composed(form: str, parse: Callable[[str], object | None], write: Callable[[object], Plain]) -> Quantity:
    def read(node: Node, key: str) -> object:
        value = parse(scalar(node, key, form).strip())
        if value is None:
            raise mismatch(node, key, form)
        return value

    return Quantity(form, read, write)


def pipe() -> Quantity:
    """`0.8x50Mbit/20Mbit`: eight tenths of the peers have 50 Mbit/s down and 20 Mbit/s up; one rate is for both."""

    def parse(text: str) -> Pipe | None:
        parts = _PIPE.fullmatch(text)
        if parts is None:
            return None
        share, down = quantities.share_of(parts[1]), quantities.rate_of(parts[2])
        up = quantities.rate_of(parts[3]) if parts[3] else down
        return Pipe(share=share, up=up, down=down) if share is not None and up and down else None

    def write(value: object) -> str:
        assert isinstance(value, Pipe)
        rates = f"{quantities.rate_text(value.down)}/{quantities.rate_text(value.up)}"
        return f"{quantities.decimal_text(value.share)}x{rates}"

    return _composed(PIPE_FORM, parse, write)


def arrival() -> Quantity:
    """When jobs come."""

    def parse(text: str) -> Arrival | None:
        burst = _BURST.fullmatch(text)
        if burst is not None:
            rate = quantities.per_hour_of(burst[2])
            is_right = rate is not None and int(burst[1]) > 0
            return Arrival(model="burst", per_hour=rate, burst=int(burst[1])) if rate is not None and is_right else None
        model, _, often = text.partition(" ")
        rate = quantities.per_hour_of(often.strip())
        if rate is None or model not in ("poisson", "regular"):
            return None
        return Arrival(model=cast("Literal['poisson', 'regular']", model), per_hour=rate)

    def write(value: object) -> str:
        assert isinstance(value, Arrival)
        often = f"{quantities.decimal_text(value.per_hour)}/h"
        return f"burst {value.burst} {often}" if value.model == "burst" else f"{value.model} {often}"

    return _composed(ARRIVAL_FORM, parse, write)


def times() -> Quantity:
    """A distribution of times that are longer than none."""

    def parse(text: str) -> Duration | None:
        parts = _TIMES.fullmatch(text)
        value = quantities.span_of(parts[2]) if parts else None
        if parts is None or not value or value > quantities.SPAN_MAX:
            return None
        model, sigma = parts[1] or "fixed", parts[3]
        if (model == "lognormal") != (sigma is not None):
            return None
        if sigma is not None and not (is_number(sigma) and float(sigma) <= SIGMA_MAX):
            return None
        known = cast("Literal['fixed', 'exponential', 'lognormal']", model)
        return Duration(model=known, value=value, sigma=float(sigma or 0))

    def write(value: object) -> str:
        assert isinstance(value, Duration)
        sigma = f" {quantities.decimal_text(value.sigma)}" if value.model == "lognormal" else ""
        return f"{value.model} {quantities.span_text(value.value)}{sigma}"

    return _composed(TIMES_FORM, parse, write)


# ── maps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def mapping(inner: Quantity, names: Iterable[str] = ()) -> Quantity:
    """A map of names to one kind of value; with `names`, only those."""
    known = tuple(names)

    def read(node: Node, key: str) -> object:
        return {word: inner.read(value, f"{key}.{word}") for word, value in pairs(node, key, known).items()}

    def write(value: object) -> dict[str, Plain]:
        assert isinstance(value, dict)
        return {word: inner.write(item) for word, item in value.items()}

    return Quantity("a map", read, write)


def section(
    cls: type[msgspec.Struct],
    table: Mapping[str, Quantity],
    hints: Mapping[str, str] | None = None,
    check: Callable[[Node, str, msgspec.Struct], None] | None = None,
    fixed: Mapping[str, object] | None = None,
) -> Quantity:
    """A map that becomes a struct. `check` refuses what does not go together; `fixed` is what the file cannot say."""
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    needs = [name for name, field in fields.items() if field.required and name in table]

    def read(node: Node, key: str) -> object:
        found = pairs(node, key, tuple(table), hints)
        values = {name: table[name].read(value, f"{key}.{name}" if key else name) for name, value in found.items()}
        for name in needs:
            if name not in found:
                full = f"{key}.{name}" if key else name
                detail = f"expected {table[name].form}, found nothing"
                raise wrong(node.place, full, detail, f"Add `{name}: …`.", code="missing_key")
        made = msgspec.convert({**values, **(fixed or {})}, cls)
        if check is not None:
            check(node, key, made)
        return made

    def write(value: object) -> dict[str, Plain]:
        said = {name: getattr(value, name) for name in table}
        return {name: table[name].write(it) for name, it in said.items() if not is_default(fields[name], it)}

    return Quantity("a map of `key: value`", read, write)


def is_default(field: msgspec.structs.FieldInfo, value: object) -> bool:
    """Whether leaving the field out says the same."""
    if field.required:
        return False
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return bool(value == field.default)


def optional(inner: Quantity) -> Quantity:
    """A value whose absence is None; only its presence is ever read or written."""
    return Quantity(inner.form, inner.read, lambda value: "" if value is None else inner.write(value))
