"""What every tier that runs shell commands owes: results, limits, logs, and nobody left behind."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import trio

from node.executors import bwrap, cgroup
from node.executors.interface import Task
from node.executors.loglines import LOG_LINE_CHARS_MAX, LOG_LINES_MAX
from protocol.jobspec import Resources
from protocol.units import MIB
from tests.node.executors.bench import Bench, BenchOf
from tests.node.waiting import SECONDS, happens

TIERS = [
    pytest.param("docker", marks=pytest.mark.container),
    pytest.param("runc", marks=pytest.mark.container),
    "bwrap",
    "child",
]


@pytest.fixture(params=TIERS)
async def bench(request: pytest.FixtureRequest, bench_of: BenchOf) -> Bench:
    return await bench_of(request.param)


async def test_a_job_reads_inputs_and_leaves_outputs(bench: Bench) -> None:
    spec = bench.spec(
        "cd $SHOAL_IN",
        "mkdir -p $SHOAL_OUT/deep",
        "cat a/b.txt > $SHOAL_OUT/deep/copy",
        'python -c \'import os; print(os.environ["OMP_NUM_THREADS"], os.environ["WORD"])\'',
        'printf %s "$SHOAL_CHUNK/$SHOAL_CHUNKS $HOSTNAME" > $SHOAL_OUT/which',
        files={"a/b.txt": b"hello"},
        env={"WORD": "it's $HOME; `x`"},
    )
    done = await bench.run(spec)
    assert done.reason == "ok", done
    assert bench.output(done) == {"deep/copy": b"hello", "which": b"0/1 job"}
    assert bench.lines == ["1 it's $HOME; `x`"]
    assert bench.started == list(bench.runner.tiers)
    assert not list((bench.folder / "tasks").iterdir())


async def test_the_first_failing_command_ends_the_job(bench: Bench) -> None:
    done = await bench.run(bench.spec("echo one", "exit 7", "echo two"))
    assert (done.reason, done.exit_code, bench.lines) == ("exit", 7, ["one"])


async def test_time_is_limited(bench: Bench) -> None:
    done = await bench.run(bench.spec("echo on; sleep 3600", seconds=1.5))
    assert done.reason == "timeout"
    assert bench.lines in (["on"], []), "a busy machine may not have come to start it"


async def test_stop_ends_a_job_with_everything_it_started(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:

        async def stop_when_it_talks() -> None:
            await bench.talked.wait()
            bench.runner.stop("job/0/1")

        nursery.start_soon(stop_when_it_talks)
        mark = f"86{os.getpid()}"
        done = await bench.run(bench.spec(f"setsid sleep {mark} & sleep {mark} & echo on; wait"))
    assert done.reason == "stopped"
    await happens(lambda: not _running(f"sleep\0{mark}\0"))


async def test_nothing_outlives_the_job(bench: Bench) -> None:
    mark = f"87{os.getpid()}"
    done = await bench.run(bench.spec(f"setsid sleep {mark} > /dev/null 2>&1 & echo over"))
    assert (done.reason, bench.lines) == ("ok", ["over"])
    await happens(lambda: not _running(f"sleep\0{mark}\0"))


HOG = b"""
import mmap, time
memory = mmap.mmap(-1, 400 << 20)
for page in range(0, 400 << 20, 4096):
    memory[page] = 1
print("got it", flush=True)
time.sleep(600)
"""


async def test_memory_is_limited(bench: Bench) -> None:
    spec = bench.spec("python -I $SHOAL_IN/hog.py", files={"hog.py": HOG})
    done = await bench.run(spec)
    assert done.reason == "memory", (done, bench.lines)
    if bench.started == ["docker"] or not cgroup.why_not():
        assert "got it" not in bench.lines, "the kernel is quicker than a watch"


async def test_disk_is_limited(bench: Bench) -> None:
    spec = bench.spec("for i in $(seq 100); do head -c 4000000 /dev/zero > $SHOAL_OUT/$i; done; sleep 600")
    done = await bench.run(spec)
    assert done.reason == "disk", (done, bench.lines)


async def test_a_flood_of_lines_is_cut(bench: Bench) -> None:
    done = await bench.run(bench.spec(f"yes | head -n {LOG_LINES_MAX + 5_000}"))
    assert done.reason == "ok"
    assert len(bench.lines) == LOG_LINES_MAX + 1
    assert "5000 more lines were dropped" in bench.lines[-1]


async def test_lines_cannot_move_the_readers_cursor(bench: Bench) -> None:
    done = await bench.run(
        bench.spec(r"printf '\033[2J\033]0;owned\007\r\nb\bd\000\377\n'; head -c 9000 /dev/zero | tr '\0' x")
    )
    assert done.reason == "ok"
    assert all(line.isprintable() or "\ufffd" in line for line in bench.lines)
    assert not [line for line in bench.lines if "\x1b" in line or "\x07" in line or "\x00" in line]
    assert max(len(line) for line in bench.lines) == LOG_LINE_CHARS_MAX


@pytest.mark.parametrize(
    ("trick", "word"),
    [
        ("ln -s /etc/passwd $SHOAL_OUT/x", "x cannot be read as a regular file"),
        ("ln -s / $SHOAL_OUT/x", "x is a symbolic link"),
        ("echo a > $SHOAL_OUT/a; ln $SHOAL_OUT/a $SHOAL_OUT/b", "hard link"),
        ("mkfifo $SHOAL_OUT/x", "not a regular file"),
        ("touch \"$SHOAL_OUT/$(printf 'a\\nb')\"", "control characters"),
        ("touch $SHOAL_OUT/$(printf '\\377')", "not UTF-8"),
        ("mkdir -p $SHOAL_OUT/$(seq -s / 40)", "deep"),
        ("for i in $(seq 2100); do : > $SHOAL_OUT/$i; done", "2048 files"),
    ],
)
async def test_tricks_in_the_output_folder_are_refused(bench_of: BenchOf, trick: str, word: str) -> None:
    bench = await bench_of("bwrap")
    done = await bench.run(bench.spec(trick))
    assert done.reason in {"exit", "disk"}
    assert word in done.detail


async def test_preloaded_code_does_not_reach_what_builds_the_sandbox(bench_of: BenchOf) -> None:
    bench = await bench_of("bwrap")
    done = await bench.run(bench.spec("id -u", env={"LD_PRELOAD": "/in/no-such-library.so", "BASH_ENV": "/in/x"}))
    preloads = [line for line in bench.lines if "cannot be preloaded" in line]
    assert done.reason == "ok"
    assert len(preloads) == 1, "only `id` itself, started by the job's own shell"


async def test_a_sandbox_ends_that_has_not_yet_asked_to_die_with_bwrap(
    bench_of: BenchOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine without a free core leaves when a job is stopped in its first millisecond."""
    bench, asked = await bench_of("bwrap"), bwrap.BwrapExecutor.sandbox

    def without(self: bwrap.BwrapExecutor, task: Task, number: int) -> tuple[list[str], list[str]]:
        arguments, limits = asked(self, task, number)
        return [part for part in arguments if part != "--die-with-parent"], limits

    monkeypatch.setattr(bwrap.BwrapExecutor, "sandbox", without)
    await test_a_cancelled_caller_leaves_nothing(bench)


async def test_a_cancelled_caller_leaves_nothing(bench: Bench) -> None:
    mark = f"88{os.getpid()}"
    with trio.move_on_after(SECONDS) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.run, bench.spec(f"echo on; sleep {mark}"))
            await bench.talked.wait()
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    await happens(lambda: not _running(f"sleep\0{mark}\0"))
    assert not list((bench.folder / "tasks").iterdir())


SPIN = b"""
import time
began = time.monotonic()
while time.monotonic() - began < 1:
    pass
print(time.process_time())
"""


async def test_cpu_limits_hold_in_every_tier_with_groups(bench: Bench) -> None:
    spec = bench.spec("python $SHOAL_IN/spin.py", files={"spin.py": SPIN})
    half = msgspec.structs.replace(
        spec, resources=Resources(cpus_milli=300, memory_bytes=256 * MIB, disk_bytes=8 * MIB)
    )
    done = await bench.run(half)
    assert done.reason == "ok", done
    if bench.started == ["docker"] or not cgroup.why_not():
        assert float(bench.lines[0]) < 0.7


def _running(command: str) -> bool:
    """True while a process of this machine has this command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False
