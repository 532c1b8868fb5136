"""Stands for tests, one per tier; skipped with the reason where a tier cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.runtimes import Runtime, discover
from tests.node.executors.conftest import causes, executors, images
from tests.node.protection.stand import Stand

__all__ = ["causes", "images"]

StandOf = Callable[[str], Stand]


@pytest.fixture(scope="session")
def plain_runtimes() -> dict[str, Runtime]:
    return discover({}, None)


@pytest.fixture(params=["bwrap", "child", pytest.param("runc", marks=pytest.mark.container)])
def stand(request: pytest.FixtureRequest, stand_of: StandOf) -> Stand:
    """On every tier that runs programs."""
    return stand_of(str(request.param))


@pytest.fixture
def stand_of(tmp_path: Path, request: pytest.FixtureRequest, plain_runtimes: dict[str, Runtime]) -> StandOf:
    def build(tier: str) -> Stand:
        if cause := request.getfixturevalue("causes")[tier]:
            pytest.skip(f"tier {tier} cannot be used here: {cause}")
        return Stand(tmp_path, executors(request.getfixturevalue("images"))[tier], plain_runtimes)

    return build
