"""Streams of chance: the same in every process, and independent of each other."""

from __future__ import annotations

import subprocess
import sys

from simulations import chance


def test_streams_depend_on_seed_and_names_only() -> None:
    first = [chance.stream(7, "peer", 3).random() for _ in range(2)]
    assert first[0] == first[1]
    assert chance.stream(7, "peer", 3).random() != chance.stream(8, "peer", 3).random()
    assert chance.stream(7, "peer", 3).random() != chance.stream(7, "peer", 4).random()


def test_names_do_not_run_together() -> None:
    assert chance.digest(1, "a", "b") != chance.digest(1, "ab")
    assert len(chance.digest(1, "a")) == 32


def test_another_process_draws_the_same() -> None:
    code = "from simulations import chance; print(chance.stream(5, 'x').getrandbits(64))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "123")
    }
    assert seen == {f"{chance.stream(5, 'x').getrandbits(64)}\n"}
