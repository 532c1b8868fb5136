"""A run directory: everything that one run of one scenario with one seed leaves behind. Guide: docs/simulator.md.

started.json      only while the run is under way: what is being run here
scenario.yaml     the scenario, runnable
metrics.parquet   samples and totals (or metrics.csv)      histograms.parquet   what was observed most often
events.jsonl.zst  every event, if asked for                trace.json           for ui.perfetto.dev, if asked for
plots/  violations/  README.md (the one command that runs it again)
manifest.json     written last: a directory that has one is complete
"""

from __future__ import annotations

import hashlib
import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from protocol.errors import Refused
from simulations import frames, landing
from simulations.landing import Landing, explained
from simulations.scenario import Scenario, Simulation

if TYPE_CHECKING:
    import polars as pl

    from simulations.recorder import Recorder

MANIFEST: Final = "manifest.json"
STARTED: Final = "started.json"
SCENARIO: Final = "scenario.yaml"
REPLAY: Final = "shoal sim replay ."
"""The one command that runs it again, from inside the directory."""

OURS: Final = ("plots", "violations")
"""Folders that a run makes; deleted with the rest when it starts again."""


class State(StrEnum):
    """What lies in a directory, as seen from the run that wants to use it."""

    EMPTY = "empty"
    COMPLETE = "complete"
    """The same run, whole."""
    PARTIAL = "partial"
    """The same run, interrupted: may be done again in place."""
    FOREIGN = "foreign"
    """Another run, or something that is no run at all: never touched."""


class Started(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`started.json`."""

    scenario: str
    seed: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`. Times of the wall and the commit come from the caller: simulations read neither."""

    version: Literal[1] = 1
    name: str
    scenario: str
    """Hash of the scenario (see `scenario_hash`)."""
    seed: int
    auditor: str
    """Hash of every event: two runs are the same if and only if it is the same."""
    checkpoints: tuple[tuple[float, str], ...] = ()
    """(simulated seconds, auditor's hash then), where the run was asked for them."""
    simulated_s: float
    events: int
    wall_s: float
    events_per_s: float
    peak_rss_bytes: int = 0
    violations: int = 0
    attacks: tuple[str, ...] = ()
    """One sentence for each strategy of adversaries: cost, gain, time to detection."""
    commit: str = ""
    """Git commit of the program, when known."""
    versions: dict[str, str] = {}
    """Of Python, Shoal and the libraries that the run used."""
    files: dict[str, int] = {}
    """Bytes of every file of the directory, except for this one: a directory that was copied in part is found out."""


def scenario_hash(scenario: Scenario) -> str:
    """32 hex digits. The list of seeds is left out: a sweep with more seeds goes on with the runs that are there."""
    simulation = msgspec.structs.replace(scenario.simulation, seeds=_NO_SEEDS)
    plain = msgspec.structs.replace(scenario, simulation=simulation)
    return hashlib.blake2b(msgspec.json.encode(plain, order="deterministic"), digest_size=16).hexdigest()


_NO_SEEDS: Final = Simulation(duration=0).seeds


class RunDirectory:
    """Writes and reads one. `start`, then files, then `finish`; or `read_manifest` and `read` of a complete one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def state(self, scenario: Scenario, seed: int) -> State:
        """What lies here, for a run of this scenario with this seed."""
        mine = Started(scenario_hash(scenario), seed)
        try:
            if not self.path.exists():
                return State.EMPTY
            names = sorted(item.name for item in self.path.iterdir())
        except OSError:
            return State.FOREIGN
        if not names:
            return State.EMPTY
        if MANIFEST in names:
            try:
                manifest = self.read_manifest()
            except Refused:
                # A damaged run may be done again only where the note of its start says that it is this one.
                return State.PARTIAL if self._started() == mine else State.FOREIGN
            return State.COMPLETE if Started(manifest.scenario, manifest.seed) == mine else State.FOREIGN
        if names == [f".{STARTED}{landing.SUFFIX}"]:
            return State.PARTIAL
        return State.PARTIAL if self._started() == mine else State.FOREIGN

    def start(self, scenario: Scenario, seed: int, text: str) -> None:
        """Take the directory for this run; what an interrupted one left is deleted. `text`: the scenario's file.

        Raises `Refused`: `foreign_directory` when something else lies here, `run_complete` when this run does."""
        match self.state(scenario, seed):
            case State.FOREIGN:
                raise Refused(
                    f"{self.path} holds something else than this scenario with seed {seed}: {self._description()}",
                    code="foreign_directory",
                    fix="Name another folder with --out, or move this one away.",
                )
            case State.COMPLETE:
                raise Refused(
                    f"{self.path} holds this run already, complete",
                    code="run_complete",
                    fix="Look at it, name another folder with --out, or delete it to run again.",
                )
            case State.PARTIAL:
                self._clear()
        self.write(STARTED, msgspec.json.encode(Started(scenario_hash(scenario), seed)))
        self.write(SCENARIO, text.encode())

    def write(self, name: str, data: bytes) -> None:
        """One file, whole or not at all. Raises `Refused` (`disk_full`, `unwritable`)."""
        landing.write(self.path / name, data)

    def stream(self, name: str) -> Landing:
        """A file that is written bit by bit, and appears when it is committed."""
        return Landing(self.path / name)

    def record(self, recorder: Recorder, seed: int, form: Literal["parquet", "csv"] = "parquet") -> None:
        """metrics.* and histograms.*."""
        self.write(f"metrics.{form}", frames.encoded(frames.metrics(recorder, seed), form))
        self.write("histograms.parquet", frames.encoded(frames.histograms(recorder, seed), "parquet"))

    def finish(self, manifest: Manifest) -> None:
        """README.md, and the manifest last."""
        self.write("README.md", _readme(manifest).encode())
        sizes = {item.relative_to(self.path).as_posix(): item.stat().st_size for item in self._files()}
        del sizes[STARTED]
        whole = msgspec.structs.replace(manifest, files=sizes)
        self.write(MANIFEST, msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
        self.settle()

    def settle(self) -> None:
        """The manifest is there: the note of the start has done its work."""
        with explained(self.path, 0):
            (self.path / STARTED).unlink(missing_ok=True)

    def read_manifest(self) -> Manifest:
        """Of a complete run. Raises `Refused`: `no_run`, `partial_run`, or `bad_run` when files are missing or cut."""
        path = self.path / MANIFEST
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except FileNotFoundError as error:
            if (self.path / STARTED).exists():
                raise Refused(
                    f"{self.path} holds a run that was interrupted",
                    code="partial_run",
                    fix="Start it again with the same command: it is done anew.",
                ) from error
            raise Refused(f"{self.path} holds no run", code="no_run", fix="Name a run directory.") from error
        except (OSError, msgspec.DecodeError) as error:
            raise Refused(f"{path} cannot be read: {error}", code="bad_run", fix="Run the scenario again.") from error
        for name in sorted(manifest.files):
            file, size = self.path / name, manifest.files[name]
            found = file.stat().st_size if file.is_file() else -1
            if found != size and name.partition("/")[0] not in OURS:
                what = "is missing" if found < 0 else f"has {found:,} bytes instead of {size:,}"
                raise Refused(
                    f"{file} {what}",
                    code="bad_run",
                    fix="Copy the directory again, or delete it and run the scenario again.",
                    numbers={"expected": size, "found": found},
                )
        return manifest

    def metrics(self) -> pl.DataFrame:
        """The metrics frame of a complete run."""
        files = self.read_manifest().files
        return frames.read(self.path / ("metrics.parquet" if "metrics.parquet" in files else "metrics.csv"))

    def histograms(self) -> pl.DataFrame:
        """The histogram frame of a complete run."""
        self.read_manifest()
        return frames.read(self.path / "histograms.parquet")

    def _started(self) -> Started | None:
        try:
            return msgspec.json.decode((self.path / STARTED).read_bytes(), type=Started)
        except (OSError, msgspec.DecodeError):
            return None

    def _description(self) -> str:
        try:
            if (started := self._started()) is not None:
                return f"an interrupted run of scenario {started.scenario[:8]}, seed {started.seed}"
            manifest = self.read_manifest()
        except Refused as refused:
            return refused.detail
        return f"a run of {manifest.name}, scenario {manifest.scenario[:8]}, seed {manifest.seed}"

    def _clear(self) -> None:
        """Delete what an interrupted run left, and nothing that it cannot have left; its note goes last."""
        known = ("metrics.", "histograms.", "events.", "trace.", ".", MANIFEST, SCENARIO, "README.md")
        with explained(self.path, 0):
            for item in sorted(self.path.iterdir()):
                if item.is_dir() and not item.is_symlink() and item.name in OURS:
                    shutil.rmtree(item)
                elif item.is_file() and item.name.startswith(known):
                    item.unlink()
            (self.path / STARTED).unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        found = (item for item in self.path.rglob("*") if item.is_file())
        return sorted(item for item in found if not item.name.endswith(landing.SUFFIX))


def _readme(manifest: Manifest) -> str:
    outcome = "no rule was broken" if not manifest.violations else f"{manifest.violations} violations, see violations/"
    attacks = "".join(f"- attack: {sentence}\n" for sentence in manifest.attacks)
    commit = f"- program: commit {manifest.commit}\n" if manifest.commit else ""
    return f"""# {manifest.name}, seed {manifest.seed}

Run it again, event by event, from inside this folder:

    {REPLAY}

- simulated: {manifest.simulated_s:,.0f} s, {manifest.events:,} events; {outcome}
- auditor: {manifest.auditor} (the same scenario, seed and commit give the same)
{attacks}{commit}
`metrics.*` holds one row per measurement (seed, name, at_s, peer, value), `histograms.parquet` the buckets of what is
measured most often, `manifest.json` all figures of the run itself.
"""
