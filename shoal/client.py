"""The renter's SDK: submit jobs to any gateway, follow them, and check what comes back. Synchronous.

    from shoal.client import Client
    with Client("http://127.0.0.1:8080", token) as shoal:
        job = shoal.submit("job.yml")
        shoal.confirm(job.job)
        shoal.wait(job.job)
        shoal.result(job.job, "out")

Importing this loads neither the network nor an HTTP library; the latter comes with the first `Client`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from shoal import folders

folders.open_for_library()

import msgspec  # noqa: E402 - the folders have to be open first
from msgspec import Struct  # noqa: E402

from gateway.proof_schemas import Claim, Evidence  # noqa: E402
from gateway.schemas import (  # noqa: E402
    Account,
    BlobStored,
    Deposited,
    JobList,
    JobStatus,
    JobSummary,
    Plan,
    ResultFile,
    ResultList,
    Submitted,
)
from node.clock import Clock  # noqa: E402
from protocol.errors import Refused, Unavailable  # noqa: E402
from protocol.units import SECOND  # noqa: E402
from shoal.session import ServerFault, Session, events  # noqa: E402

FINAL_STATES: Final = frozenset(("settled", "failed", "cancelled", "expired"))
WAIT_PAUSE_S: Final = 0.5
"""Between two looks at a job that somebody waits for."""

LOG_TRIES: Final = 20
"""Reconnections in a row of a followed log that bring no new line, before it is given up."""

_JOBS: Final = "/v1/marketplace/jobs"


class LogLine(Struct, frozen=True):
    """One line that a chunk wrote."""

    sequence: int
    chunk: int = 0
    time: int = 0
    line: str = ""


@dataclass(frozen=True, slots=True)
class SavedFile:
    """One downloaded and verified file: where it is now, and what the network calls it."""

    path: Path
    listed: ResultFile


class Client(Session):
    """A renter at one gateway. Methods raise Refused (fix the request), Unavailable (try later) or ServerFault."""

    def submit(self, job: str | Path, key: str = "") -> Submitted:
        """Read a job file, upload the files that it names, ask for a quote. The same `key` is the same job."""
        from shoal import jobfile

        loaded = jobfile.load(Path(job), os.environ)
        for file in loaded.files:
            stored = self.put_blob(BlobStored, file.source.read_bytes())
            if stored.digest != bytes(file.ref.digest).hex():
                raise Refused(f"{file.source} changed while it was uploaded", code="file_changed", fix="Submit again.")
        return self.ask(Submitted, "POST", _JOBS, body={"spec": _plain(loaded)}, key=key or fresh_key())

    def plan(self, job: str | Path) -> Plan:
        """Who could run the job file, at what price, and who could not and why. Uploads and commits nothing."""
        from shoal import jobfile

        return self.ask(
            Plan, "POST", "/v1/marketplace/plan", body={"spec": _plain(jobfile.load(Path(job), os.environ))}
        )

    def confirm(self, job: str) -> JobStatus:
        """Agree to the quote: the escrow is funded and the job starts. Twice is once."""
        return self.ask(JobStatus, "POST", _path(job, "confirm"), key=f"confirm-{job}")

    def cancel(self, job: str) -> JobStatus:
        """Stop the job; what nobody earned comes back. Twice is once."""
        return self.ask(JobStatus, "POST", _path(job, "cancel"), key=f"cancel-{job}")

    def extend(self, job: str, spend_cap: int | None = None, timeout: int | None = None) -> JobStatus:
        """New absolute limits: smallest units, microseconds per chunk."""
        limits = {name: value for name, value in (("spend_cap", spend_cap), ("timeout", timeout)) if value is not None}
        return self.ask(JobStatus, "POST", _path(job, "extend"), body=limits, key=fresh_key())

    def evidence(self, job: str, chunk: int | None = None) -> Evidence:
        """Why claims of the job, or of one chunk, were judged so."""
        return self.ask(Evidence, "GET", _path(job, "evidence"), query={} if chunk is None else {"chunk": chunk})

    def appeal(self, job: str, chunk: int, bond: int = 0, epoch: int = 0, **more: str | bool) -> Claim:
        """Contest the newest decision about a chunk's claim. `bond`: smallest units, 0: the least that is asked for.
        `more`: `replay`, or `rival` and `speaker` (`gateway.proof_schemas.AppealRequest`)."""
        body = {"chunk": chunk, "epoch": epoch, "bond": bond, **more}
        return self.ask(Claim, "POST", _path(job, "appeal"), body=body, key=fresh_key())

    def status(self, job: str) -> JobStatus:
        """Everything about one job."""
        return self.ask(JobStatus, "GET", _path(job))

    def wait(
        self, job: str, each: Callable[[JobStatus], None] | None = None, timeout_s: float | None = None
    ) -> JobStatus:
        """Block until the job is over; `each` gets every look. A gateway that is away is waited for."""
        clock = Clock()
        ends = None if timeout_s is None else clock.now() + int(timeout_s * SECOND)
        while True:
            with suppress(Unavailable):
                status = self.status(job)
                if each is not None:
                    each(status)
                if status.state in FINAL_STATES:
                    return status
            if ends is not None and clock.now() > ends:
                raise Unavailable(
                    f"{job} is not over after {timeout_s:g} s",
                    code="wait_timeout",
                    fix=f"Go on with `shoal job logs {job} --follow`.",
                )
            time.sleep(WAIT_PAUSE_S)

    def logs(self, job: str, *, follow: bool = True, since: int | None = None) -> Iterator[LogLine]:
        """Lines behind sequence number `since`, in order, each once. Following ends with the job, and resumes by itself
        where the connection broke; without it, the lines so far."""
        lost = 0
        while True:
            try:
                for line in self._followed(job, since) if follow else self._written(job, since):
                    if line is None:
                        return
                    since, lost = line.sequence, 0
                    yield line
            except Unavailable:
                if lost >= LOG_TRIES:
                    raise
            lost += 1
            time.sleep(WAIT_PAUSE_S)

    def result(self, job: str, folder: str | Path) -> list[SavedFile]:
        """Download every file of the result into `folder`; each is hashed on the way and kept only if it is right."""
        listed = self.ask(ResultList, "GET", _path(job, "result")).files
        return [SavedFile(self._download(job, file, Path(folder)), file) for file in listed]

    def receipt(self, job: str) -> bytes:
        """The signed receipt; `shoal.receipts.verify` checks it without the network."""
        with self.opened(_path(job, "receipt"), headers={"Accept": "*/*"}) as response:
            return response.read()

    def units(self, job: str, target: Path) -> None:
        """What was opened of the job's claims, into a file; `shoal.units_file.verify` checks it beside the receipt."""
        beside = target.with_name(target.name + ".part")
        with self.opened(_path(job, "units"), headers={"Accept": "*/*"}) as response, beside.open("wb") as stream:
            for piece in response.iter_bytes():
                stream.write(piece)
        beside.replace(target)

    def list(self, limit: int = 50) -> list[JobSummary]:
        """The account's jobs, newest first."""
        return self.ask(JobList, "GET", _JOBS, query={"limit": limit}).jobs

    def deposit(self, amount: int, key: str = "") -> int:
        """Put credits (smallest units) on the account; returns what it has. The same `key` is the same deposit."""
        return self.ask(
            Deposited, "POST", "/v1/account/deposit", body={"amount": amount}, key=key or fresh_key()
        ).available

    def balance(self) -> Account:
        """Who we are, and what we have."""
        return self.ask(Account, "GET", "/v1/account")

    def _followed(self, job: str, since: int | None) -> Iterator[LogLine | None]:
        """Lines from server-sent events; None at the end of the log."""
        headers = {"Accept": "text/event-stream"} | ({} if since is None else {"Last-Event-ID": str(since)})
        with self.opened(_path(job, "logs"), {"follow": "true"}, headers) as response:
            for event in events(response.iter_lines()):
                if event.name == "end":
                    yield None
                    return
                line = _line(event.name, event.data)
                if since is None or line.sequence > since:
                    yield line
        raise Unavailable(f"the log of {job} broke off", code="log_lost", fix="Ask again; it resumes.")

    def _written(self, job: str, since: int | None) -> Iterator[LogLine | None]:
        """The lines so far, `[chunk] text` each, then None."""
        query: dict[str, str | int] = {"follow": "false"} | ({} if since is None else {"since": since})
        first = 0 if since is None else since + 1
        with self.opened(_path(job, "logs"), query, {"Accept": "text/plain"}) as response:
            for sequence, text in enumerate(response.iter_lines(), first):
                mark, _, line = text.partition("] ")
                number = mark.removeprefix("[")
                yield LogLine(sequence, int(number) if number.isdecimal() else 0, 0, line)
        yield None

    def _download(self, job: str, file: ResultFile, folder: Path) -> Path:
        from blake3 import blake3

        target = safe_target(folder, file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(target.name + ".part")
        found = blake3()
        with (
            self.opened(f"{_path(job, 'result')}/{quote(file.path)}", headers={"Accept": "*/*"}) as response,
            beside.open("wb") as stream,
        ):
            for piece in response.iter_bytes():
                found.update(piece)
                stream.write(piece)
        if found.hexdigest() != file.digest:
            beside.unlink()
            raise ServerFault(
                f"{file.path} has digest {found.hexdigest()[:16]}…, not {file.digest[:16]}…", code="digest_differs",
                fix="Download again, or from another gateway; nothing wrong was kept.",
            )  # fmt: skip
        beside.replace(target)
        return target


def fresh_key() -> str:
    """An Idempotency-Key that nobody else has."""
    from node import entropy

    return entropy.token()


def safe_target(folder: Path, path: str) -> Path:
    """Where a result's file goes; `Refused` for a path that would leave the folder."""
    parts = path.split("/")
    if (
        not path
        or path.startswith("/")
        or "\\" in path
        or "\0" in path
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise Refused(
            f"the result names a file {path[:80]!r} outside its folder",
            code="bad_path",
            fix="Do not trust this gateway.",
        )
    return folder.joinpath(*parts)


def _plain(loaded: object) -> dict[str, object]:
    from protocol import jobcodec
    from shoal.jobfile import JobFile

    assert isinstance(loaded, JobFile)
    return jobcodec.spec_to_plain(loaded.spec)


def _path(job: str, what: str = "") -> str:
    return f"{_JOBS}/{quote(job, safe='')}" + (f"/{what}" if what else "")


def _line(name: str, data: str) -> LogLine:
    if name == "problem":
        problem = msgspec.json.decode(data, type=dict[str, str])
        raise ServerFault(problem.get("detail", "the log ended"), code=problem.get("code", "error"))
    return msgspec.json.decode(data, type=LogLine)
