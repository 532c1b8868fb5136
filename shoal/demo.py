"""The story that `shoal demo` tells: real peers do two jobs, one peer is killed, everything is checked and paid."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.schemas import JobStatus
from node.clock import Clock
from protocol import genesis
from protocol.errors import Refused, ShoalError, Unavailable
from protocol.units import CREDIT, SECOND
from shoal import exits, receipts
from shoal.client import FINAL_STATES, Client, SavedFile
from shoal.demo_strike import Kill, Striker
from shoal.devnet import Devnet
from shoal.devnet_state import DevnetState
from shoal.job_text import chunks_text
from shoal.output import Output, money, size_text, span_text, table
from shoal.receipt_account import Account, wire_peer

DEPOSIT: Final = 100 * CREDIT
LOOK_S: Final = 0.1
"""Between two looks at the jobs: a chunk of the examples takes seconds."""

TRAINED: Final = "transformer"
"""The example that is interrupted."""

SAID_STEPS: Final = 500
"""Steps between two lines about progress."""

PATIENCE_S: Final = 1_200.0
"""Seconds that both jobs together may take on a slow machine before the demo gives up."""


@dataclass(slots=True)
class Done:
    """One job at its end."""

    name: str
    status: JobStatus
    saved: list[SavedFile]
    account: Account
    chunks_checked: int


def play(to: Path, out: Output, *, cheats: bool, keeps: bool, trains: bool) -> int:
    """Everything, in order. Results go to `to`. Returns the exit code."""
    clock = Clock()
    started = clock.now()
    steps = Steps(out, clock)
    with _network(out, keeps) as network:
        steps.tell("starting 6 nodes and a gateway, each a process of its own")
        state = network.up(cheats=cheats, deposit=DEPOSIT)
        names = {node.peer: node.name for node in state.nodes}
        steps.tell(f"the page: {state.gateway.url}/")
        with Client(state.gateway.url, state.gateway.token) as client:
            jobs = _submit(client, steps, trains)
            kill = _watch(client, network, Striker(network, state), jobs, steps)
            done = [_collect(client, name, job, to, state, steps) for name, job in jobs.items()]
        good = _report(done, kill, names, cheats, out)
        _by_hand(state, done, keeps, out)
        steps.tell(f"done in {span_text(clock.now() - started)}")
        if keeps:
            network.release()
            out.say(f"The network is left running. End it: shoal devnet down --data {network.folder}")
    value = {"jobs": [_value(one, names) for one in done], "killed": _blow(kill), "good": good}
    out.data(value, lambda: "")
    return exits.OK if good else exits.JOB_FAILED


class Steps:
    """Progress: a line per step with the time since the start, and one line that is redrawn on a terminal."""

    def __init__(self, out: Output, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._started = clock.now()
        self._last = ""

    def tell(self, text: str) -> None:
        """A step."""
        seconds = (self._clock.now() - self._started) / SECOND
        self._out.say(f"{seconds:6.1f} s  {text}")

    def change(self, text: str) -> None:
        """A step that is told only when it differs from the last such line."""
        if text != self._last:
            self._last = text
            self.tell(text)


@contextmanager
def _network(out: Output, keeps: bool) -> Iterator[Devnet]:
    """A fresh network that is gone afterwards, whatever happens; with `keeps` it stays when all went well."""
    if keeps:
        folder = Path(tempfile.mkdtemp(prefix="shoal-demo-"))
        yield from _ended(Devnet(folder, out.say), keeps)
        return
    with tempfile.TemporaryDirectory(prefix="shoal-demo-", ignore_cleanup_errors=True) as temporary:
        yield from _ended(Devnet(Path(temporary), out.say), keeps)


def _ended(network: Devnet, keeps: bool) -> Iterator[Devnet]:
    try:
        yield network
    except BaseException:
        network.down()
        raise
    if not keeps:
        network.down()


def _example(name: str) -> Path:
    here = Path(__file__).parent
    for folder in (here.parent / "examples", here / "_app" / "examples"):
        if (path := folder / name / "job.yml").is_file():
            return path
    raise Refused(f"there is no example {name!r}", code="file_missing", fix="Run the demo from a complete checkout.")


def _submit(client: Client, steps: Steps, trains: bool) -> dict[str, str]:
    """Submit and confirm the examples. Without PyTorch only the first."""
    jobs: dict[str, str] = {}
    for name in ("render", TRAINED) if trains else ("render",):
        try:
            submitted = client.submit(_example(name))
        except Refused as error:
            if name == "render" or error.code != "no_capacity":
                raise
            steps.tell(f"{TRAINED} is left out: {error.detail}. {error.fix} (`make demo` installs PyTorch.)")
            continue
        assert submitted.quote is not None
        client.confirm(submitted.job)
        jobs[name] = submitted.job
        steps.tell(f"{name}: {submitted.job}, at most {money(submitted.quote.total_max)} credits")
    return jobs


def _watch(client: Client, network: Devnet, striker: Striker, jobs: dict[str, str], steps: Steps) -> Kill | None:
    """Tell what happens until both are over; kill the provider that trains, or one that renders where nobody does."""
    clock = Clock()
    ends = clock.now() + int(PATIENCE_S * SECOND)
    target = TRAINED if TRAINED in jobs else "render"
    while True:
        looks = {name: client.status(job) for name, job in jobs.items()}
        look = looks[target]
        for told in (striker.strike(look, is_trained=target == TRAINED), striker.watch(look)):
            if told:
                steps.tell(told)
        steps.change(" · ".join(_progress(name, look) for name, look in looks.items()))
        if all(look.state in FINAL_STATES for look in looks.values()):
            return striker.kill
        if clock.now() > ends:
            raise Unavailable(
                f"the jobs are not over after {PATIENCE_S:g} s", code="demo_timeout", fix=f"Look into {network.folder}."
            )
        time.sleep(LOOK_S)


def _progress(name: str, look: JobStatus) -> str:
    """A job in few words."""
    saved = max((chunk.step for chunk in look.chunks), default=0)
    steps = f", safe up to step {saved // SAID_STEPS * SAID_STEPS}" if saved and look.state == "running" else ""
    return f"{name} {look.state} {look.accepted}/{look.steps}{steps}"


def _collect(client: Client, name: str, job: str, to: Path, state: DevnetState, steps: Steps) -> Done:
    """Download, hash, and check everything against the receipt, offline."""
    status = client.status(job)
    if status.state != "settled":
        raise ShoalError(
            f"{name} ended {status.state}: {status.reason}", code="job_failed", fix=f"shoal job status {job}"
        )
    folder = to / name
    saved = client.result(job, folder)
    data = client.receipt(job)
    (to / f"{name}.receipt").write_bytes(data)
    (to / "genesis.json").write_bytes(Path(state.genesis).read_bytes())
    account = receipts.verify(data, genesis.from_json(Path(state.genesis).read_bytes()))
    files = [(one.listed.chunk or 0, one.listed.path, one.listed.digest, one.listed.size) for one in saved]
    checked = receipts.verify_outputs(account, files, has_reduce=status.steps > 1 and _is_reduced(saved))
    steps.tell(f"{name}: {len(saved)} files in {folder}, receipt verified offline ({account.operations} operations)")
    return Done(name, status, saved, account, checked)


def _is_reduced(saved: list[SavedFile]) -> bool:
    """The files of a reduce step are not below their chunk's number."""
    return not all(one.listed.path.startswith(f"{one.listed.chunk}/") for one in saved)


def _report(done: list[Done], kill: Kill | None, names: dict[str, str], cheats: bool, out: Output) -> bool:
    """Who did what, what the audits found, who was paid what. True when the story came out as it should."""
    good = kill is not None
    for one in done:
        for chunk in one.status.chunks:
            chunk.provider = names.get(chunk.provider or "", chunk.provider)
        out.say(f"\n── {one.name}: who did what ──\n{chunks_text(one.status.chunks)}")
        out.say(f"\nfiles, each with the hash that was judged and paid:\n{_files(one)}")
        out.say(f"\n── {one.name}: money, computed again from the signed receipt ──\n{_money(one, names)}")
        good = good and sum(one.account.movements().values()) == 0 and one.chunks_checked > 0
    leases = [lease for one in done for lease in one.account.leases.values()]
    audited = [lease for lease in leases if lease.is_audited]
    wrong = [lease for lease in leases if lease.outcome in ("wrong", "fraud")]
    out.say(f"\naudits: {len(audited)} results were executed again, {len(wrong)} were wrong")
    for lease in wrong:
        name = names.get(wire_peer(lease.provider), "?")
        out.say(
            f"  {name}, chunk {lease.chunk}: caught ({lease.code}), {money(lease.price)} refused and given back, "
            f"{money(lease.slashed)} slashed; the chunk was computed again by somebody else"
        )
    if kill is not None:
        good = good and kill.is_over and (kill.resumed > 0 or not kill.saved)
        out.say(f"failure: {kill.told() if kill.is_over else f'{kill.node} was killed, and nobody went on'}")
        out.say("  nothing was paid for the lost attempt; the result is that of an uninterrupted run, bit for bit")
    return good and (bool(wrong) if cheats else not wrong)


def _files(one: Done) -> str:
    rows = [(_near(saved.path), size_text(saved.listed.size), saved.listed.digest) for saved in one.saved]
    return table(("file", "size", "blake3"), rows, right=(1,))


def _money(one: Done, names: dict[str, str]) -> str:
    moved = one.account.movements()
    rows = [(names.get(who, who), money(amount)) for who, amount in sorted(moved.items(), key=lambda item: item[1])]
    paid, commission = one.account.paid, one.account.commission
    share = f"{commission * 100 / (paid + commission):.2f} %" if paid + commission else "–"
    total = money(sum(moved.values()))
    return f"{table(('who', 'credits'), rows, right=(1,))}\nsum {total}; commission {share} of what was earned"


def _by_hand(state: DevnetState, done: list[Done], keeps: bool, out: Output) -> None:
    """The same, typed."""
    receipt = _near(done[0].saved[0].path.parents[done[0].saved[0].listed.path.count("/") + 1])
    lines = ["shoal devnet up"] + [f"shoal job submit {_near(_example(one.name))} --wait" for one in done]
    lines += ["shoal job result <job> --to ./result", "shoal job receipt <job> --verify", "shoal devnet down"]
    files = f"--from {receipt}/{done[0].name}.receipt --genesis {receipt}/genesis.json"
    out.say("\n── the same by hand ──")
    out.say("\n".join(f"  {line}" for line in lines))
    out.say(f"\ncheck a receipt without any network:\n  shoal job receipt {done[0].status.job} {files}")
    out.say(f"the page{'' if keeps else ' (with --keep it stays)'}: {state.gateway.url}/")


def _near(path: Path) -> str:
    """The path as one would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _blow(kill: Kill | None) -> dict[str, object] | None:
    if kill is None:
        return None
    return {
        "node": kill.node, "job": kill.name, "chunk": kill.chunk, "reached": kill.reached, "resumed": kill.resumed,
        "heir": kill.heir, "seconds": round(kill.seconds, 2), "state_bytes": kill.state, "moved_bytes": kill.moved,
    }  # fmt: skip


def _value(one: Done, names: dict[str, str]) -> dict[str, object]:
    return {
        "name": one.name, "job": one.status.job, "state": one.status.state,
        "files": [str(saved.path) for saved in one.saved],
        "paid": one.account.paid, "commission": one.account.commission, "refunded": one.account.refunded,
        "evidence": one.account.audits,
        "slashed": one.account.slashed, "movements": {names.get(k, k): v for k, v in one.account.movements().items()},
    }  # fmt: skip
