"""Served gateways and their callers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway import health
from tests.gateway.served import PATIENCE_S, Site


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A node that answers late, because this machine is slow, is a node that answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "READY_DEADLINE_S", PATIENCE_S)
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway for the tests of one module, with generous rates."""
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Site]:
    """A gateway of one's own, with its own limits."""
    return lambda **limits: Site(tmp_path, **limits)


@pytest.fixture
def anna(site: Site) -> Iterator[httpx.Client]:
    """A renter."""
    with site.client(site.token("anna")) as client:
        yield client


@pytest.fixture
def boris(site: Site) -> Iterator[httpx.Client]:
    """Another renter."""
    with site.client(site.token("boris")) as client:
        yield client
