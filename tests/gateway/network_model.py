"""A small network in memory that answers the methods of a node's control socket, and moves when a test says so."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from blake3 import blake3

from node.proof_views import trust_view
from protocol import jobcodec
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_text
from protocol.jobspec import Chunk, JobSpec
from protocol.units import CREDIT, SECOND, PeerId

Plain = dict[str, object]
START = 1_790_000_000 * SECOND


def peer_id(number: int) -> str:
    """A well-formed peer id, the same for the same number."""
    return peer_text(PeerId(hashlib.sha256(b"peer %d" % number).digest()))


OWN, VALIDATOR, *PROVIDERS = (peer_id(number) for number in range(6))


def picture(width: int = 320, height: int = 200) -> bytes:
    """A PNG with a soft sphere, so that a page has something to show."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            dx, dy = (x - width / 2) / (height / 2.4), (y - height / 2) / (height / 2.4)
            lit = max(0.0, 1 - dx * dx - dy * dy) ** 0.5 * max(0.2, 0.7 - 0.4 * dx - 0.5 * dy)
            rows += bytes((int(24 + 60 * lit), int(38 + 190 * lit), int(52 + 180 * lit)))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    )


def spec(name: str = "render", chunks: int = 12) -> JobSpec:
    """A small valid job."""
    pieces = tuple(Chunk(env=(("TILE", str(index)),)) for index in range(chunks))
    return JobSpec(name=name, runtime="python", commands=("python -c 'print(1)'",), chunks=pieces, reduce=("cat",))


def plain_spec(name: str = "render", chunks: int = 12) -> Plain:
    """The same as it travels."""
    return jobcodec.spec_to_plain(spec(name, chunks))


@dataclass
class Job:
    """One job of the model."""

    status: Plain
    spec: JobSpec
    key: str
    log: list[Plain] = field(default_factory=list)
    files: list[Plain] = field(default_factory=list)


class Network:
    """The model: the methods of the control socket over plain values."""

    def __init__(self) -> None:
        self.now = START
        self.renters: dict[str, str] = {}
        self.money: dict[str, list[Plain]] = {}
        self.references: dict[str, int] = {}
        self.jobs: dict[str, Job] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.events: list[Plain] = []
        self.calls: list[str] = []
        self.changed = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.silent: set[str] = set()
        self.replays: list[str] = []
        self.picture = picture()
        self.peers = [self._peer(OWN, ["steward"], 0, 0), self._peer(VALIDATOR, ["validator"], 0, 0)]
        self.peers += [self._peer(peer, ["provider"], 2, 2) for peer in PROVIDERS]

    def _peer(self, peer: str, roles: list[str], slots: int, free: int) -> Plain:
        provides = "provider" in roles
        return {
            "peer": peer,
            "roles": roles,
            "addresses": ["/ip4/127.0.0.1/tcp/4001"],
            "connected": peer != OWN,
            "liveness": "alive",
            "slots": slots,
            "slots_free": free,
            "price_per_hour": 360_000 + 40_000 * slots if provides else 0,
            "executors": ["bwrap", "wasm"] if provides else [],
            "runtimes": [{"name": "python", "digest": "ab" * 32}],
            "gpus": [],
            "capability": {},
            "reputation": 0.71,
            "stake": 50 * CREDIT,
            "is_draining": False,
            "seen": self.now,
            "secret_note": "x",
        }

    # requests
    async def answer(self, method: str, params: Plain) -> Plain:
        """One request. Raises Refused as the node does."""
        self.calls.append(method)
        if method in self.silent:
            await asyncio.Event().wait()
        handler: Callable[[Plain], Plain] | None = getattr(self, "on_" + method.replace(".", "_"), None)
        if handler is None:
            raise Refused(f"unknown method {method}", code="unknown_method")
        if method == "job.submit" and self.hold is not None:
            self.arrived.set()
            await self.hold.wait()
        return handler(params)

    def on_node_status(self, _: Plain) -> Plain:
        return {
            "peer": OWN,
            "network": "testnet",
            "roles": ["steward"],
            "software": "shoal/0.1.0",
            "ledger": {"height": 41 + len(self.events), "time": self.now},
        }

    def on_node_peers(self, _: Plain) -> Plain:
        return {"peers": self.peers}

    def on_market_cluster(self, _: Plain) -> Plain:
        return {"peers": len(self.peers), "slots": 8, "slots_free": 8, "gpus": 0}

    def on_market_pricing(self, _: Plain) -> Plain:
        return {"price_per_hour_min": 440_000, "price_per_hour_median": 440_000}

    def on_market_queue(self, _: Plain) -> Plain:
        return {"jobs": []}

    def on_renter_create(self, params: Plain) -> Plain:
        name = str(params["name"])
        renter = self.renters.setdefault(name, peer_text(PeerId(hashlib.sha256(name.encode()).digest())))
        self.money.setdefault(renter, [])
        return {"renter": renter}

    def on_renter_balance(self, params: Plain) -> Plain:
        lines = self.money[str(params["renter"])]
        return {"available": sum(int(str(line["amount"])) for line in lines), "escrowed": 0, "lines": lines}

    def on_renter_deposit(self, params: Plain) -> Plain:
        renter, amount, reference = str(params["renter"]), int(str(params["amount"])), str(params["reference"])
        if amount > 1_000_000 * CREDIT:
            numbers: dict[str, int | str] = {"available": 1_000_000 * CREDIT, "wanted": amount}
            raise Refused("the node has less than that", code="insufficient_funds", numbers=numbers)
        if reference not in self.references:
            self.references[reference] = amount
            self.money[renter].append({"time": self.now, "kind": "deposit", "amount": amount, "note": reference[:8]})
        return {"available": self.on_renter_balance({"renter": renter})["available"]}

    def on_blob_begin(self, params: Plain) -> Plain:
        upload = f"up{len(self.uploads)}"
        self.uploads[upload] = bytearray()
        return {"upload": upload}

    def on_blob_part(self, params: Plain) -> Plain:
        held = self.uploads[str(params["upload"])]
        assert params["offset"] == len(held)
        data = params["data"]
        assert isinstance(data, bytes)
        held += data
        return {"offset": len(held)}

    def on_blob_end(self, params: Plain) -> Plain:
        data = bytes(self.uploads.pop(str(params["upload"])))
        return {"digest": self.keep(data), "size": len(data)}

    def keep(self, data: bytes) -> str:
        """Store a blob."""
        digest = blake3(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def on_blob_get(self, params: Plain) -> Plain:
        if params["digest"] not in self.blobs:
            raise Unavailable(f"blob {params['digest']} is not here", code="no_blob")
        data, offset = self.blobs[str(params["digest"])], int(str(params["offset"]))
        return {"data": data[offset : offset + int(str(params["size"]))], "total": len(data)}

    def on_job_plan(self, params: Plain) -> Plain:
        candidates = [
            {
                "peer": peer,
                "price_per_hour": 440_000,
                "chunk_price": 3_666,
                "executor": "bwrap",
                "slots": 2,
                "reputation": 0.71,
            }
            for peer in PROVIDERS
        ]
        excluded = [{"peer": VALIDATOR, "code": "no_slots", "detail": "offers no slots"}]
        return {
            "candidates": candidates,
            "excluded": excluded,
            "price_min": 1,
            "price_max": 2,
            "worst_case_loss_s": 12.0,
            "start_estimate_s": 0.4,
        }

    def on_job_submit(self, params: Plain) -> Plain:
        plain, renter, key = params["spec"], str(params["renter"]), str(params["key"])
        assert isinstance(plain, dict)
        wanted = jobcodec.spec_from_plain(plain)
        job = f"job_{hashlib.sha256(f'{renter}{key}'.encode()).hexdigest()[:32]}"
        if job in self.jobs and self.jobs[job].spec != wanted:
            raise Refused("this key came with another specification", code="key_reused")
        if job not in self.jobs:
            self.jobs[job] = self._new_job(job, renter, key, wanted)
            self.emit("job_quoted", job=job, name=wanted.name)
        status = self.jobs[job].status
        return {"job": job, "state": status["state"], "quote": status["quote"], "plan": self.on_job_plan({})}

    def _new_job(self, job: str, renter: str, key: str, wanted: JobSpec) -> Job:
        self.now += SECOND
        chunks = [
            {"index": index, "state": "waiting", "epoch": 0, "provider": "", "attempts": []}
            for index in range(wanted.steps)
        ]
        quote = {
            "total_max": wanted.spend_cap,
            "chunk_price_max": 3_666,
            "expires": self.now + 300 * SECOND,
        }
        money = {
            "cap": 0,
            "paid": 0,
            "commission": 0,
            "evidence": 0,
            "refunded": 0,
            "slashed": 0,
            "pending": 0,
            "held": 0,
            "held_until": 0,
            "free": 0,
            "lines": [],
        }
        status: Plain = {
            "job": job,
            "name": wanted.name,
            "state": "quoted",
            "reason": "",
            "renter": renter,
            "created": self.now,
            "confirmed": None,
            "finished": None,
            "quote": quote,
            "escrow": None,
            "steps": wanted.steps,
            "accepted": 0,
            "chunks": chunks,
            "money": money,
            "trust": trust_view(wanted, 3_666),
            "result": None,
        }
        return Job(status, wanted, key)

    def _job(self, params: Plain) -> Job:
        job = str(params["job"])
        if job not in self.jobs:
            raise Refused(f"no job {job}", code="unknown_job")
        return self.jobs[job]

    def on_job_status(self, params: Plain) -> Plain:
        return self._job(params).status

    def on_job_list(self, params: Plain) -> Plain:
        found = [
            job.status for job in reversed(self.jobs.values()) if params.get("renter") in (None, job.status["renter"])
        ]
        if not str(params.get("cursor") or 0).isdigit():
            raise Refused("no such cursor", code="bad_cursor")
        start, limit = int(str(params.get("cursor") or 0)), int(str(params.get("limit", 50)))
        rest = found[start : start + limit]
        following = str(start + limit) if start + limit < len(found) else None
        return {
            "jobs": [{name: value for name, value in one.items() if name != "chunks"} for one in rest],
            "next_cursor": following,
        }

    def on_job_confirm(self, params: Plain) -> Plain:
        status = self._job(params).status
        if status["state"] == "cancelled":
            raise Refused("a cancelled job cannot be confirmed", code="bad_state", numbers={"state": "cancelled"})
        if status["state"] == "quoted":
            status.update(state="running", confirmed=self.now, escrow="esc_" + "5e" * 32)
            self.emit("job_funded", job=str(status["job"]))
        return status

    def on_job_cancel(self, params: Plain) -> Plain:
        status = self._job(params).status
        status.update(state="cancelled", finished=self.now)
        return status

    def on_job_extend(self, params: Plain) -> Plain:
        status = self._job(params).status
        money = status["money"]
        assert isinstance(money, dict)
        money["cap"] = params.get("spend_cap", money["cap"])
        return status

    def on_job_result(self, params: Plain) -> Plain:
        return {"files": self._job(params).files}

    def on_job_evidence(self, params: Plain) -> Plain:
        chunks = self._job(params).status["chunks"]
        assert isinstance(chunks, list)
        wanted = [one for one in chunks if one.get("outcome") and params.get("chunk") in (None, one["index"])]
        return {
            "job": params["job"],
            "has_policy": True,
            "claims": [self._claim(one) for one in wanted],
            "decisions": [
                {"time": self.now, "chunk": one["index"], "epoch": one["epoch"], "what": "verdict",
                 "finding": one["outcome"], "code": one["code"], "evidence": "ab" * 32, "secret_note": "x"}
                for one in wanted
            ],
        }  # fmt: skip

    def on_job_replay(self, params: Plain) -> Plain:
        """An own node that runs the chunk: what it says, question by question."""
        return {"speaker": "12D3KooWOwn", "rival": "cd" * 32, "why": "timeout", "replay": self.replays.pop(0)}

    def on_job_appeal(self, params: Plain) -> Plain:
        chunks = self._job(params).status["chunks"]
        assert isinstance(chunks, list)
        found = [one for one in chunks if one["index"] == params["chunk"] and one.get("held_until")]
        if not found:
            raise Refused(f"nothing is held of chunk {params['chunk']}", code="not_held", fix="Look at the evidence.")
        if params.get("replay") and not found[0].get("replayed"):
            found[0]["replayed"] = True
            return self._claim(found[0]) | {"replay": "running"}
        found[0]["appeal"] = "open"
        rival = {"rival": params.get("rival", ""), "speaker": params.get("speaker", "")}
        return rival | self._claim(found[0]) | {"bond": params["bond"] or 16_500, "rule_by": self.now + 1800 * SECOND}

    @staticmethod
    def _claim(chunk: Plain) -> Plain:
        return {"chunk": chunk["index"], "epoch": chunk["epoch"], "finding": chunk["outcome"], "code": chunk["code"],
                "held_until": chunk.get("held_until", 0), "rounds": 2}  # fmt: skip

    def on_job_receipt(self, params: Plain) -> Plain:
        if self._job(params).status["state"] != "settled":
            raise Refused("the job is not settled", code="no_receipt")
        return {"receipt": b"\x93receipt"}

    # streams
    async def stream(self, method: str, params: Plain) -> AsyncIterator[Plain]:
        """Items of a stream."""
        is_log = method == "job.logs"
        source = self._job(params).log if is_log else self.events
        since = params.get("since")
        sent = 0
        while True:
            changed = self.changed
            for item in source[sent:]:
                if since is None or int(str(item["sequence"])) > int(str(since)):
                    yield item
            sent = len(source)
            if is_log and (not params.get("follow", True) or self._job(params).status["finished"]):
                return
            await changed.wait()

    # moves
    def stall(self) -> None:
        """Let the next submission wait; `arrived` says that it is there."""
        self.hold = asyncio.Event()

    def release(self) -> None:
        """Let it go on."""
        assert self.hold is not None
        self.hold.set()
        self.hold = None

    def wake(self) -> None:
        """Tell every stream to look again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def emit(self, name: str, /, **fields: str | int) -> None:
        """An event."""
        self.now += SECOND // 5
        self.events.append({"sequence": len(self.events) + 1, "time": self.now, "name": name, "fields": fields})
        self.wake()

    def see(self, peer: int, liveness: str) -> None:
        """A peer is found alive, unknown or dead."""
        self.peers[peer]["liveness"] = liveness
        self.emit("peer_seen", peer=str(self.peers[peer]["peer"]), state=liveness)

    def say(self, job: str, *lines: str, chunk: int = 0) -> None:
        """Log lines."""
        log = self.jobs[job].log
        for line in lines:
            log.append({"sequence": len(log) + 1, "time": self.now, "chunk": chunk, "line": line})
        self.wake()

    def work(self, job: str, accepted: int, running: int = 0) -> None:
        """Let providers do the first chunks of a job; one of them dies on the way."""
        status, money = self.jobs[job].status, self.jobs[job].status["money"]
        chunks = status["chunks"]
        assert isinstance(chunks, list) and isinstance(money, dict)
        lines: list[Plain] = [self._line("you", "escrow", 10 * CREDIT, "fund", "escrow opened")]
        lines[0]["from"] = status["renter"]
        for index, chunk in enumerate(chunks[: accepted + running]):
            provider, epoch = PROVIDERS[index % 4], 2 if index == 3 else 1
            attempts = (
                [
                    {
                        "epoch": 1,
                        "provider": PROVIDERS[1],
                        "started": self.now,
                        "ended": self.now + 6 * SECOND,
                        "end": "fenced",
                    }
                ]
                if epoch == 2
                else []
            )
            attempts.append(
                {
                    "epoch": epoch,
                    "provider": provider,
                    "started": self.now,
                    "ended": self.now + 2 * SECOND,
                    "end": "claimed",
                }
            )
            done = index < accepted
            chunk.update(
                state="accepted" if done else ("claimed" if index % 3 else "running"),
                epoch=epoch,
                provider=provider,
                executor="bwrap",
                price=3_666,
            )
            chunk.update(
                attempts=attempts,
                outcome="accept" if done else "",
                code="hash_equal" if index == 2 else "not_sampled",
                is_audited=index == 2 and done,
            )
            if done:
                lines += [
                    self._line("escrow", provider, 3_300, "pay", f"chunk {index}"),
                    self._line("escrow", "fees", 366, "commission", f"chunk {index}"),
                ]
        money.update(
            cap=10 * CREDIT, paid=3_300 * accepted, commission=366 * accepted, pending=3_666 * running, lines=lines
        )
        status.update(accepted=accepted)
        self.emit(
            "chunk_accepted",
            job=job,
            chunk=accepted,
            provider=PROVIDERS[0],
            name=status["name"] if isinstance(status["name"], str) else "",
        )

    def _line(self, source: str, target: str, amount: int, kind: str, note: str) -> Plain:
        return {"time": self.now, "from": source, "to": target, "amount": amount, "kind": kind, "note": note}

    def settle(self, job: str, files: dict[str, bytes]) -> None:
        """The job is done and left these files."""
        status = self.jobs[job].status
        self.work(job, int(str(status["steps"])))
        money = status["money"]
        assert isinstance(money, dict)
        rest = int(money["cap"]) - int(money["paid"]) - int(money["commission"])
        money["lines"].append(self._line("escrow", str(status["renter"]), rest, "refund", "unused"))
        money.update(refunded=rest, pending=0)
        self.jobs[job].files = [
            {"path": path, "digest": self.keep(data), "size": len(data), "chunk": 0} for path, data in files.items()
        ]
        status.update(state="settled", finished=self.now)
        self.emit("job_settled", job=job)
