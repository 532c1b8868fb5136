"""The ground on which all bad input is tried, opened once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bad_input.ground import Ground, opened


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A node and its gateway."""
    with opened(tmp_path_factory.mktemp("bad")) as running:
        yield running
