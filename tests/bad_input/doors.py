"""Bad requests: the specification codec, plan and submit, HTTP, the control socket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import msgspec

from protocol import jobcodec
from protocol.units import CREDIT, HOUR
from tests.bad_input.ground import SPEC, Ground, Plain, Row, Told, raised, raising, spec

JOBS = "/v1/marketplace/jobs"
NOBODY = "job_" + "0" * 32
DIGEST = "ab" * 32
LONG: Plain = {"estimate": 20 * HOUR, "timeout": 20 * HOUR, "spend_cap": 10**6 * CREDIT}


def codec(name: str, plain: object, code: str, says: str) -> Row:
    """A specification as plain values."""
    act = raising(lambda: jobcodec.spec_from_plain(plain))  # type: ignore[arg-type]
    return Row(f"specification: {name}", act, code, says)


def file_of(**changes: object) -> Plain:
    return spec(files=[{"path": "a", "digest": DIGEST, "size": 1} | changes])


def market(name: str, plain: Plain, code: str, says: str) -> Row:
    """A job that is understood and cannot be had."""
    return Row(f"market: {name}", lambda ground: ground.http("POST", JOBS, json={"spec": plain}), code, says)


def http(name: str, act: Callable[[Ground], Told], code: str, says: str) -> Row:
    return Row(f"http: {name}", act, code, says)


def get(path: str, **more: str) -> Callable[[Ground], Told]:
    return lambda ground: ground.http("GET", path.replace("{job}", ground.job), headers=more)


def of_boris(method: str, path: str) -> Callable[[Ground], Told]:
    """Boris asks about Anna's job."""
    return lambda ground: ground.http(method, path.replace("{job}", ground.job), who="boris")


def token(text: str) -> Callable[[Ground], Told]:
    return lambda ground: ground.http("GET", JOBS, token=text)


def key_used_twice(ground: Ground) -> Told:
    return ground.http("POST", JOBS, json={"spec": spec(name="other")}, headers={"Idempotency-Key": "quoted"})


def poor(ground: Ground) -> Told:
    """Boris has nothing."""
    job = ground.submit(SPEC, f"poor-{ground.fresh().name}", who="boris")["job"]
    return ground.http("POST", f"{JOBS}/{job}/confirm", who="boris")


def unending() -> Iterator[bytes]:
    yield b"x"


def declared(size: int) -> Callable[[Ground], Told]:
    """A file that is announced and never sent."""

    def act(ground: Ground) -> Told:
        line = HTTPConnection(ground.url.removeprefix("http://"), timeout=30)
        with contextlib.closing(line):
            line.putrequest("POST", "/v1/blobs")
            line.putheader("Authorization", f"Bearer {ground.tokens['anna']}")
            line.putheader("Content-Type", "application/octet-stream")
            line.putheader("Content-Length", str(size))
            line.endheaders()
            answer = line.getresponse()
            problem = msgspec.json.decode(answer.read(), type=dict[str, object])
        return Told(str(problem["code"]), str(problem["detail"]), str(problem["fix"]), status=answer.status)

    return act


def yaml(text: str) -> Callable[[Ground], Told]:
    return lambda ground: ground.http("POST", JOBS, content=text.encode(), headers={"Content-Type": "application/yaml"})


def json(text: bytes, path: str = JOBS, kind: str = "application/json") -> Callable[[Ground], Told]:
    return lambda ground: ground.http("POST", path, content=text, headers={"Content-Type": kind})


def control(name: str, act: Callable[[Ground], Told], code: str, says: str) -> Row:
    return Row(f"control: {name}", act, code, says)


def call(method: str, **params: object) -> Callable[[Ground], Told]:
    return lambda ground: ground.call(method, **params)


def frame(value: object) -> Callable[[Ground], Told]:
    return lambda ground: ground.frame(msgspec.msgpack.encode(value))


def offset(ground: Ground) -> Told:
    """A part of an upload that begins in the middle."""
    from node.control_client import ControlClient

    with ControlClient(ground.node / "control.sock") as line:
        upload = line.call("blob.begin", {"size": 10})["upload"]
        return raised(lambda: line.call("blob.part", {"upload": upload, "offset": 5, "data": b"x"}))


CODEC = (
    codec("a list", [], "bad_spec", "expected an object, found a list"),
    codec("nothing", {}, "bad_spec", "name"),
    codec("unknown field", spec(comands=[]), "bad_spec", "/comands"),
    codec("no commands", spec(commands=[]), "bad_spec", "there is nothing to run"),
    codec("zero byte", spec(commands=["a\0b"]), "bad_spec", "/commands/0"),
    codec("no chunks", spec(chunks=[]), "bad_spec", "/chunks"),
    codec("unknown runtime", spec(runtime="cobol"), "bad_spec", "there is no runtime 'cobol'"),
    codec("negative money", spec(spend_cap=-1), "bad_spec", "/spend_cap"),
    codec("fractional money", spec(spend_cap=0.5), "bad_spec", "/spend_cap"),
    codec("audit over 1", spec(audit_ppm=2_000_000), "bad_spec", "/audit_ppm"),
    codec("unknown level of trust", spec(trust="total"), "bad_spec", "/trust"),
    codec("trust and audit", spec(trust="high", audit_ppm=5), "bad_spec", "/audit_ppm"),
    codec("proof without a kind", spec(proof={"units": 3}), "bad_spec", "/proof"),
    codec("too many units", spec(proof={"kind": "general", "units": 5000}), "bad_spec", "/proof/units"),
    codec("a tolerance of nothing", spec(proof={"kind": "general", "tolerance": {}}), "bad_spec", "/proof/tolerance"),
    codec("bomb", spec(env=[[[[[[[[[[[[[[[[[[["x"]]]]]]]]]]]]]]]]]]]), "bad_spec", "nested deeper than 16"),
    codec("no digest", file_of(digest="xyz"), "bad_spec", "'xyz' is no digest"),
    codec("path outside", file_of(path="../a"), "bad_path", "/files/0/path"),
    codec("path twice", spec(files=[file_of()["files"][0]] * 2), "bad_spec", "'a' is there twice"),  # type: ignore[index]
    codec("kept folder", file_of(path="chunks/1"), "bad_spec", "holds the outputs for the reduce step"),
    codec("variable twice", spec(env=[["A", "1"], ["A", "2"]]), "bad_spec", "the variable A is set twice"),
    codec("reserved variable", spec(env=[["SHOAL_X", "1"]]), "bad_spec", "SHOAL_X is set by the sandbox"),
    codec(
        "wasm without its module",
        spec(runtime="wasm", numeric="D0", commands=["m.wasm"]),
        "bad_spec",
        "is not among the files",
    ),
    codec(
        "GPU memory backwards",
        spec(resources={"gpu": {"count": 1, "memory_bytes_min": 9, "memory_bytes_max": 3}}),
        "bad_spec",
        "is less than the minimum, 9",
    ),
)

MARKET = (
    market(
        "cards that nobody has",
        spec(resources={"gpu": {"count": 8, "names": ["H100"]}}),
        "no_capacity",
        "8 GPU wanted, it has none",
    ),
    market(
        "memory that nobody has",
        spec(resources={"memory_bytes": 1 << 50}),
        "no_capacity",
        f"{1 << 50} bytes of memory wanted",
    ),
    market(
        "cores that nobody has",
        spec(resources={"cpus_milli": 256_000}),
        "no_capacity",
        "256000 thousandths of a CPU wanted",
    ),
    market("runtime that nobody has", spec(runtime="torch"), "no_capacity", "has no runtime torch, only"),
    market(
        "price below all offers", spec(price_per_hour_max=1), "no_capacity", "asks 400000 per hour, at most 1 are paid"
    ),
    market(
        "budget below one chunk",
        spec(spend_cap=1, estimate=10 * HOUR, timeout=10 * HOUR),
        "no_capacity",
        "the job may spend 1",
    ),
    market(
        "budget below all chunks",
        spec(spend_cap=CREDIT, estimate=HOUR, timeout=HOUR, chunks=[{}] * 9),
        "budget_too_small",
        "the job costs at least 3.6 credits in 9 steps",
    ),
    market("files that were not uploaded", file_of(), "missing_blobs", "1 input file(s) are not uploaded: a"),
    Row("market: not enough money", poor, "insufficient_funds", "credits, 0 are available"),
    Row(
        "market: more money than there is",
        lambda g: g.http("POST", "/v1/account/deposit", json={"amount": 2**61}, headers={"Idempotency-Key": "m"}),
        "insufficient_funds",
        "this node has",
    ),
    Row(
        "market: confirm what was cancelled",
        lambda g: g.http("POST", f"{JOBS}/{g.over}/confirm"),
        "job_over",
        "the job is cancelled",
    ),
    Row(
        "market: result of nothing", lambda g: g.http("GET", f"{JOBS}/{g.job}/result"), "not_ready", "the job is quoted"
    ),
    Row("market: receipt of nothing", lambda g: g.http("GET", f"{JOBS}/{g.job}/receipt"), "not_ready", "no escrow yet"),
    Row(
        "market: more time",
        lambda g: g.http("POST", f"{JOBS}/{g.job}/extend", json={"timeout": 10**8}),
        "not_extendable",
        "part of the specification",
    ),
    Row(
        "market: extend what is over",
        lambda g: g.http("POST", f"{JOBS}/{g.over}/extend", json={"spend_cap": 10**8}),
        "not_extendable",
        "the job is cancelled",
    ),
)

HTTP = (
    http("no token", lambda g: g.http("GET", JOBS, who=None), "token_missing", "Authorization header is missing"),
    http("wrong token", token("shoal_" + "x" * 43), "token_invalid", "no such token"),
    http(
        "another scheme",
        lambda g: g.http("GET", JOBS, who=None, headers={"Authorization": "Basic eDp5"}),
        "token_invalid",
        "`Bearer <token>`",
    ),
    http(
        "reader who wants to submit",
        lambda g: g.http("POST", JOBS, who="reader", json={"spec": SPEC}),
        "scope_missing",
        "no scope `jobs`",
    ),
    http("foreign job", of_boris("GET", JOBS + "/{job}"), "unknown_job", "this account has no job"),
    http("foreign log", of_boris("GET", JOBS + "/{job}/logs?follow=false"), "unknown_job", "this account has no job"),
    http("foreign result", of_boris("GET", JOBS + "/{job}/result"), "unknown_job", "this account has no job"),
    http("foreign cancel", of_boris("POST", JOBS + "/{job}/cancel"), "unknown_job", "this account has no job"),
    http("job that is none", get(f"{JOBS}/{NOBODY}"), "unknown_job", "this account has no job"),
    http("id that is none", get(f"{JOBS}/42"), "unknown_job", "this account has no job 42"),
    http("path that is none", get("/v1/marketplace/jbos"), "not_found", "jbos"),
    http("method that is none", lambda g: g.http("DELETE", f"{JOBS}/{g.job}"), "method_not_allowed", "DELETE"),
    http("no JSON", json(b"{"), "malformed_body", "truncated"),
    http("no media type", json(b"{}", kind="text/plain"), "media_type", "text/plain is not one of"),
    http("no specification", json(b"{}"), "invalid_body", "spec"),
    http("unknown field", json(b'{"spec": {}, "urgent": true}'), "invalid_body", "urgent"),
    http("specification that is wrong", json(b'{"spec": {"name": "x"}}'), "bad_spec", "runtime"),
    http("job file that is wrong", yaml("type: task\nnmae: x\n"), "unknown_key", "unknown key `nmae`"),
    http(
        "job file with local files",
        yaml("type: task\nname: x\ncommands: [a]\nfiles: [a]\n"),
        "bad_job_file",
        "names local files",
    ),
    http(
        "job file that is no text",
        lambda g: g.http("POST", JOBS, content=b"\xff", headers={"Content-Type": "application/yaml"}),
        "malformed_body",
        "no UTF-8 text",
    ),
    http("body too large", json(b'{"spec": "' + b"x" * (9 << 20) + b'"}'), "body_too_large", "the body has more than"),
    http("file too large", declared(1 << 45), "body_too_large", f"the file has {1 << 45} bytes"),
    http(
        "file without a length",
        lambda g: g.http("POST", "/v1/blobs", content=unending(), headers={"Content-Type": "application/octet-stream"}),
        "length_required",
        "how long the file is",
    ),
    http("key used for something else", key_used_twice, "key_reused", "another request before"),
    http(
        "key that is none",
        lambda g: g.http("POST", JOBS, json={"spec": SPEC}, headers={"Idempotency-Key": "a b"}),
        "key_malformed",
        "visible ASCII",
    ),
    http(
        "deposit without a key",
        lambda g: g.http("POST", "/v1/account/deposit", json={"amount": 5}),
        "key_missing",
        "pays or creates",
    ),
    http(
        "deposit of nothing",
        lambda g: g.http("POST", "/v1/account/deposit", json={"amount": 0}, headers={"Idempotency-Key": "n"}),
        "invalid_body",
        "amount",
    ),
    http(
        "deposit as text",
        lambda g: g.http("POST", "/v1/account/deposit", json={"amount": "5"}, headers={"Idempotency-Key": "t"}),
        "invalid_body",
        "amount",
    ),
    http(
        "extend by nothing",
        lambda g: g.http("POST", f"{JOBS}/{g.job}/extend", json={}),
        "invalid_body",
        "neither spend_cap nor timeout",
    ),
    http("page too long", get(f"{JOBS}?limit=9999"), "invalid_query", "limit"),
    http("page of words", get(f"{JOBS}?limit=many"), "invalid_query", "limit"),
    http("unknown parameter", get(f"{JOBS}?sort=name"), "invalid_query", "sort"),
    http("log from nowhere", get(f"{JOBS}/{{job}}/logs?follow=false&since=-1"), "invalid_query", "since"),
    http(
        "log resumed nowhere",
        get(f"{JOBS}/{{job}}/logs?follow=false", **{"Last-Event-ID": "abc"}),
        "invalid_header",
        "is no sequence number",
    ),
    http(
        "another host",
        lambda g: g.http("GET", "/v1/version", headers={"Host": "evil.example"}),
        "bad_host",
        "evil.example",
    ),
)

CONTROL = (
    control("appeal where nothing is held back", call("job.appeal", job=NOBODY, chunk=0), "unknown_job", "no escrow"),
    control("replay where nothing is held back", call("job.replay", job=NOBODY, chunk=0), "unknown_job", "no escrow"),
    control(
        "appeal for a speaker that is no peer",
        call("job.appeal", job=NOBODY, chunk=0, speaker="x" * 65),
        "bad_params",
        "speaker",
    ),
    control("appeal with a negative bond", call("job.appeal", job=NOBODY, chunk=0, bond=-1), "bad_params", "bond"),
    control("evidence of a chunk that cannot be", call("job.evidence", job=NOBODY, chunk=9999), "bad_params", "chunk"),
    control("evidence of no job", call("job.evidence", job="job_zz"), "bad_id", "job_zz"),
    control("no MessagePack", lambda g: g.frame(b"\xc1"), "malformed", "malformed request"),
    control("no map", frame([1, 2]), "malformed", "malformed request"),
    control("no id", frame({"method": "node.status"}), "malformed", "id"),
    control("unknown field", frame({"id": 1, "method": "node.status", "user": "root"}), "malformed", "user"),
    control("frame too large", lambda g: g.frame(b"", 1 << 31), "over_limit", "at most 8388608 are allowed"),
    control("unknown method", call("node.explode"), "unknown_method", "no method 'node.explode'"),
    control("unknown parameter", call("node.status", verbose=True), "bad_params", "verbose"),
    control("missing parameter", call("job.status"), "bad_params", "job"),
    control("price below zero", call("node.price", per_hour=-1), "bad_params", "per_hour"),
    control("job id of another kind", call("job.status", job="esc_" + "0" * 64), "bad_id", "is no job id"),
    control("job nobody knows", call("job.status", job=NOBODY), "no_such_job", "no job"),
    control(
        "renter nobody knows",
        lambda g: g.call(
            "job.submit", spec=SPEC, renter="12D3KooWBzKEb4hug1d9EmVFW34Y85r4zeYnK6xeozeXpg4E8dVJ", key="k"
        ),
        "unknown_renter",
        "keeps no key for renter",
    ),
    control("renter that is none", call("renter.balance", renter="anna"), "bad_peer_id", "is no peer id"),
    control("blob nobody has", call("blob.get", digest=DIGEST), "no_blob", DIGEST[:16]),
    control("upload that never began", call("blob.end", upload="u"), "no_such_upload", "no such upload"),
    control("upload out of order", offset, "bad_offset", "stands at 0"),
    control("upload larger than the disk", call("blob.begin", size=1 << 50), "disk_full", str(1 << 50)),
)

ROWS = (*CODEC, *MARKET, *HTTP, *CONTROL)
