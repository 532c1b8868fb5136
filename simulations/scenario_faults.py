"""How a scenario names its faults and its adversaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast, get_args

import msgspec

from protocol.yaml_nodes import Node, Pairs, wrong
from protocol.yaml_values import is_number, pairs, scalar
from simulations import quantities
from simulations.quantities import Plain, Quantity
from simulations.scenario import Adversary, Disk, Fault, FaultKind
from simulations.scenario_forms import is_default, mapping, section

WHEN: Final[Mapping[str, Quantity]] = {
    "at": quantities.span(),
    "every": quantities.span(1),
    "until": quantities.span(1),
}
ROLES: Final = ("validator", "steward", "provider")
_LAST: Final = {"last": quantities.span(1)}
_WHO: Final[Mapping[str, Quantity]] = {
    "role": quantities.one_of(ROLES),
    "n": quantities.count(0, 1_000_000),
    "share": quantities.share(),
}
_TOGETHER: Final = {"together": quantities.flag()}
_GROUPS: Final = quantities.each(quantities.name("a region or a role"), "a list of regions or roles such as [eu, rest]")

FAULTS: Final[Mapping[FaultKind, Mapping[str, tuple[str, Quantity]]]] = {
    kind: {name: (name, quantity) for name, quantity in plain.items()} | renamed
    for kind, plain, renamed in cast(
        "tuple[tuple[FaultKind, Mapping[str, Quantity], dict[str, tuple[str, Quantity]]], ...]",
        (
            ("partition", {**_WHO, **_LAST, "groups": _GROUPS, "one_way": quantities.flag()}, {}),
            ("kill", {**_WHO, **_LAST, **_TOGETHER}, {"power_cut": ("amount", quantities.share())}),
            (
                "clock",
                {**_WHO, **_LAST},
                {
                    "jump": ("amount", quantities.seconds(is_signed=True)),
                    "drift": ("drift_ppm", quantities.ppm()),
                },
            ),
            ("clog", {**_WHO, **_LAST}, {"delay": ("amount", quantities.seconds(is_signed=False))}),
            (
                "disk",
                {**_WHO, **_LAST, **_TOGETHER},
                {"mode": ("disk", quantities.one_of(get_args(Disk)))},
            ),
            ("loss", _LAST, {"packets": ("amount", quantities.share())}),
            ("corrupt", {**_WHO, **_LAST}, {"chunks": ("amount", quantities.share())}),
            ("starve", {**_WHO, **_LAST}, {}),
            ("reclaim", {**_WHO, **_LAST}, {"notice": ("amount", quantities.seconds(is_signed=False))}),
            ("ambush", _LAST, {"after": ("amount", quantities.seconds(is_signed=False))}),
        ),
    )
}
"""Kind -> key in the file -> (field of `Fault`, how it is read)."""

NEEDED: Final[Mapping[FaultKind, str]] = {
    "clog": "delay",
    "loss": "packets",
    "corrupt": "chunks",
    "disk": "mode",
    "reclaim": "notice",
}
"""A key without which the fault would do nothing."""


def fault() -> Quantity:
    """`{at: 30m, kill: {role: provider, n: 1, last: 30s}}`."""
    kinds = ", ".join(FAULTS)
    form = f"a time (`at` or `every`) and one of {kinds}"

    def read(node: Node, key: str) -> object:
        found = pairs(node, key, (*WHEN, *FAULTS))
        kind = _only_kind(node, key, [name for name in found if name in FAULTS], form)
        if not {"at", "every"} & set(found):
            raise wrong(node.place, key, "the fault has no time", "Add `at: 5m` or `every: 5m`.", code="missing_key")
        what = pairs(found[kind], f"{key}.{kind}", tuple(FAULTS[kind]))
        needed = NEEDED.get(kind)
        if needed is not None and needed not in what:
            form_needed = FAULTS[kind][needed][1].form
            detail = f"expected {form_needed}, found nothing"
            raise wrong(found[kind].place, f"{key}.{kind}.{needed}", detail, f"Add `{needed}: …`.", code="missing_key")
        values: dict[str, object] = {"kind": kind}
        values |= {name: WHEN[name].read(found[name], f"{key}.{name}") for name in WHEN if name in found}
        for name, value in what.items():
            field, quantity = FAULTS[kind][name]
            values[field] = quantity.read(value, f"{key}.{kind}.{name}")
        if "groups" in values:
            values["groups"] = tuple(word for word in cast("tuple[str, ...]", values["groups"]) if word != "rest")
        return msgspec.convert(values, Fault)

    def write(value: object) -> dict[str, Plain]:
        assert isinstance(value, Fault)
        fields = {field.name: field for field in msgspec.structs.fields(Fault)}
        when = {
            name: getattr(value, name) for name in WHEN if getattr(value, name) or (name == "at" and not value.every)
        }
        what = {
            name: quantity.write(getattr(value, field))
            for name, (field, quantity) in FAULTS[value.kind].items()
            if name == NEEDED.get(value.kind) or not is_default(fields[field], getattr(value, field))
        }
        return {**{name: WHEN[name].write(time) for name, time in when.items()}, value.kind: cast("Plain", what)}

    return Quantity(form, read, write)


def _only_kind(node: Node, key: str, kinds: list[str], form: str) -> FaultKind:
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none of them"
        raise wrong(node.place, key, f"expected {form}, found {found}", "Write one entry of the list per fault.")
    return cast("FaultKind", kinds[0])


ADVERSARY: Final[Mapping[str, Quantity]] = {
    "strategy": quantities.name("the name of a strategy such as covert-flash"),
    "n": quantities.count(0, 1_000_000),
    "share": quantities.share(),
    "at": quantities.span(),
    "options": mapping(Quantity("a number or a word", lambda node, key: _option(node, key), str)),
}


def adversary() -> Quantity:
    """`{strategy: covert-flash, n: 40, at: 10m}`."""
    return section(Adversary, ADVERSARY, check=_check_adversary)


def _option(node: Node, key: str) -> object:
    text = scalar(node, key, "a number or a word")
    if not is_number(text.removeprefix("-")):
        return text
    return float(text) if "." in text else int(text)


def _check_adversary(node: Node, key: str, made: msgspec.Struct) -> None:
    assert isinstance(made, Adversary) and isinstance(node, Pairs)
    if (made.n > 0) == (made.share > 0):
        said = "both `n` and `share`" if made.n else "neither `n` nor `share`"
        raise wrong(node.place, key, f"the adversary has {said}", "Say how many: `n: 10`, or `share: 20%`.")
