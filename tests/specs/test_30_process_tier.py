"""specs/30-process-tier.md against node/process_tier."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.process_tier import bwrap_way, cuda, folders, freezer, images, tier
from node.process_tier.images import ProcessImage
from node.protection import imaging
from protocol.errors import Refused, Unavailable

SPEC = specs.load("30-process-tier")
MODULES = (bwrap_way, cuda, folders, freezer, images, imaging, tier)
SOURCES = "".join(path.read_text() for path in sorted(Path(tier.__file__).parent.glob("*.py")))


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_phases_and_fields_are_the_code_s() -> None:
    assert tuple(row["phase"] for row in SPEC.table("phases")) == tier.PHASES
    assert tuple(row["field"] for row in SPEC.table("folder")) == ProcessImage.__struct_fields__


def test_every_refusal_is_the_code_s() -> None:
    for row in SPEC.table("refusals"):
        assert f'"{row["code"]}"' in SOURCES, row["code"]


@given(st.one_of(st.text(alphabet="a./\0-é", max_size=30), st.integers(30, 36).map(lambda n: "/".join("a" * n))))
def test_paths_are_checked_as_it_says(path: str) -> None:
    try:
        folders.check_path(path)
    except Refused:
        assert not SPEC.functions["is_path"](path)
    else:
        assert SPEC.functions["is_path"](path)


@given(st.sets(st.one_of(st.integers(1, 400), st.integers(1, 32_767)), max_size=40))
def test_ids_are_chosen_as_it_says(taken: set[int]) -> None:
    assert bwrap_way.free_ids(taken) == SPEC.functions["first_free"](taken)


def test_an_image_with_a_process_everywhere_is_refused() -> None:
    taken = set(range(1, 32_768, 32))
    assert SPEC.functions["first_free"](taken) == 0
    try:
        bwrap_way.free_ids(taken)
    except Unavailable as unavailable:
        assert unavailable.code == "restore_failed"
    else:
        raise AssertionError
