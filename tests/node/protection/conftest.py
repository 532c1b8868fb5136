"""Stands for tests, one per tier; skipped with the reason where a tier cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from node.runtimes import Runtime, discover
from tests.node.executors import conftest as tiers
from tests.node.protection.stand import Stand

StandOf = Callable[[str], Stand]

TIERS = [
    "bwrap",
    "child",
    pytest.param("runc", marks=pytest.mark.container),
    pytest.param("docker", marks=pytest.mark.container),
]

causes = tiers.causes
images = tiers.images


@pytest.fixture(scope="session")
def plain_runtimes() -> dict[str, Runtime]:
    return discover({}, None)


@pytest.fixture(params=TIERS)
def stand(request: pytest.FixtureRequest, stand_of: StandOf) -> Stand:
    """On every tier that runs programs."""
    return stand_of(str(request.param))


@pytest.fixture(autouse=True)
def asked_before_the_loop(causes: Mapping[str, str]) -> None:
    """Which tiers can be used is found out outside of trio, in whichever order tests run."""


@pytest.fixture
def stand_of(tmp_path: Path, causes: Mapping[str, str], images: Path, plain_runtimes: dict[str, Runtime]) -> StandOf:
    def build(tier: str) -> Stand:
        if cause := causes[tier]:
            pytest.skip(f"tier {tier} cannot be used here: {cause}")
        return Stand(tmp_path, tiers.executors(images)[tier], plain_runtimes)

    return build
