"""The benchmark: it measures something, reports progress, and is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from node import capability
from protocol.errors import Unavailable
from protocol.units import Micros


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(capability, "DISK_BYTES", 1 << 20)


@pytest.mark.usefixtures("quick")
def test_measures_and_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    result = capability.measure(tmp_path, Micros(7), lambda what, share: told.append((what, share)))
    assert result.measured == 7
    assert min(result.cpu_gflops, result.hash_mbps, result.disk_mbps) > 0
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[-1] == ("done", 1.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_is_kept_until_the_host_or_the_benchmark_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "capability.json"

    def ask(now: int) -> int:
        return capability.load_or_measure(file, tmp_path, Micros(now), lambda what, share: None).measured

    assert (ask(1), ask(2)) == (1, 1)
    monkeypatch.setattr(capability, "REVISION", capability.REVISION + 1)
    assert ask(3) == 3
    file.write_text("{broken")
    assert ask(4) == 4
    monkeypatch.setattr(capability, "host_text", lambda: "another machine")
    assert ask(5) == 5


@pytest.mark.usefixtures("quick")
def test_the_offered_vector_holds_the_measured_figures(tmp_path: Path) -> None:
    result = capability.measure(tmp_path, Micros(7), lambda what, share: None)
    vector = capability.capability(result, tmp_path, ())
    assert (vector.cpu_gflops, vector.hash_mbps) == (result.cpu_gflops, result.hash_mbps)
    assert vector.cpus_milli == 1000 * capability.cpu_count() > 0
    assert min(vector.memory_bytes, vector.disk_bytes) > 0


def test_the_kernel_computes_what_it_says() -> None:
    store = wasmtime.Store()
    run = wasmtime.Instance(store, wasmtime.Module(store.engine, capability.kernel()), []).exports(store)["run"]
    assert isinstance(run, wasmtime.Func)
    far = run(store, 1_000_000)
    assert far == pytest.approx(capability.LANES * 0.0009765625 / (1 - 0.9990234375))
    assert run(store, 1) == run(store, 1) != far


@pytest.mark.usefixtures("quick")
def test_a_disk_that_cannot_be_written_is_told_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".benchmark").symlink_to("/dev/full")
    with pytest.raises(Unavailable, match=r"cannot write 1 MiB to .* to measure its disk: No space left on device"):
        capability.measure(tmp_path, Micros(7), lambda what, share: None)
