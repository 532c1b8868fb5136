"""The job file: YAML in the spirit of dstack and SkyPilot -> a `JobSpec` and the local files that it needs.

Guide: docs/job-file.md. Every refusal begins with file:line:column and the key, says what was expected and what was
found, and carries a fix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from msgspec import UNSET

from node.config import default_home
from protocol import jobrules, wire, yaml_values
from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import Chunk, JobSpec, Resources
from protocol.units import HOUR, SECOND, Micros, PeerId
from protocol.yaml_nodes import TEXT_BYTES_MAX, Node, Place, parse, wrong
from shoal import jobfile_schema as schema
from shoal.gpu_grammar import read_gpu
from shoal.job_inputs import LocalFile, collect
from shoal.job_steps import NAME_FORM, read_chunks, read_env, read_program
from shoal.jobfile_checkpoint import read_checkpoint
from shoal.jobfile_placement import read_placement
from shoal.jobfile_proof import inside, read_numeric, read_proof, read_trust
from shoal.jobfile_trees import read_inputs

KEYS: Final = frozenset(
    [
        "type",
        "name",
        "runtime",
        "python",
        "image",
        "commands",
        "wasm",
        "env",
        "files",
        "repo",
        "volumes",
        "chunks",
        "matrix",
        "reduce",
        "resources",
        "timeout",
        "estimate",
        "max_price",
        "spend_cap",
        "audit",
        "attempts",
        "numeric",
        "proof",
        "trust",
        "fuel",
        "placement",
        "checkpoint",
        "ports",
        "shell",
    ]
)

RESOURCE_KEYS: Final = frozenset(["cpu", "memory", "disk", "gpu", "shm_size", "pids"])

HINTS: Final = {
    "nodes": "A job is cut into independent `chunks`; one chunk runs on one node.",
    "port": "Use `ports`, a list such as [8888]: they are open to you alone, through `shoal port-forward`.",
    "model": "Services are not offered: a job reads /in and writes /out.",
    "replicas": "Use `chunks: N`.",
    "tolerance": "Put it under `proof`.",
    "units": "Put it under `proof`.",
    "samples": "Put it under `proof`.",
    "retry": "Lost chunks are granted again by themselves; `attempts` says how often.",
    "max_duration": "Use `timeout`, the wall time of one chunk.",
    "run": "Use `commands`, a list of lines.",
    "setup": "Use `commands`, a list of lines.",
    "file_mounts": "Use `files`, a list such as `./data:/data`.",
    "envs": "Use `env`.",
    "workdir": "Use `files`; commands start in /in.",
    "volume": "Use `volumes`, a map such as {data: /vol/data}.",
    "num_nodes": "A job is cut into independent `chunks`; one chunk runs on one node.",
    "gpu": "Put it under `resources`.",
    "memory": "Put it under `resources`.",
    "cpu": "Put it under `resources`.",
    "cpus": "Put `cpu` under `resources`.",
    "disk": "Put it under `resources`.",
    "shm_size": "Put it under `resources`.",
}
"""What to say about keys that other tools have."""

SPEC_BYTES_MAX: Final = 4 << 20
"""An encoded specification: 4096 chunks with their variables and 2048 files fit."""

_DEFAULTS: Final = JobSpec(name="defaults", runtime="python", commands=(), chunks=(Chunk(),))
_NEED: Final = _DEFAULTS.resources
_NOBODY: Final = PeerId(bytes(32))
_SPECS: Final = wire.decoder(JobSpec)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobFile:
    """A read job file: the specification, and the files whose content must reach the node before it is submitted."""

    spec: JobSpec
    files: tuple[LocalFile, ...]
    notes: tuple[str, ...] = ()
    """What the renter should know about them."""


def load(path: Path, environ: Mapping[str, str]) -> JobFile:
    """Read a job file from disk. `environ` answers `env: [NAME]`. `Refused` names file:line:column and key."""
    name = path.name
    try:
        with path.open("rb") as stream:
            data = stream.read(TEXT_BYTES_MAX + 4)
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror}"
        raise Refused(detail, code="file_missing", fix="Give the path of a job file; see docs/job-file.md.") from error
    try:
        text = data.decode("utf-8", "ignore" if len(data) > TEXT_BYTES_MAX else "strict")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise wrong(Place(name, line, 1), "", "not UTF-8 text", "Save the file as UTF-8.", code="bad_yaml") from error
    return read(text, path.parent, environ, name, cache_folder())


def read(
    text: str, folder: Path, environ: Mapping[str, str], name: str = "job.yml", cache: Path | None = None
) -> JobFile:
    """Read a job file's text; paths in `files` start at `folder`. `cache`: where fetched code is kept; without one,
    `repo` is refused."""
    tree = parse(text, name)
    top = yaml_values.pairs(tree, "", KEYS, HINTS)
    _check_type(top, tree.place)
    program = read_program(top, tree.place)
    listed = _file_list(top["files"], "files") if "files" in top else ()
    entries = tuple((node, f"files[{index}]") for index, node in enumerate(listed))
    files = collect(entries + program.modules, folder)
    env = read_env(top["env"], "env", environ) if "env" in top else ()
    inputs = read_inputs(top, files, env, folder, cache)
    timeout = _optional(top, "timeout", _span, _DEFAULTS.timeout)
    ports = schema.ports(top["ports"], "ports") if "ports" in top else ()
    shell = _optional(top, "shell", schema.switch, False)
    spec = JobSpec(
        name=_name(top, tree.place),
        runtime=program.runtime,
        commands=program.commands,
        chunks=read_chunks(top),
        files=tuple(file.ref for file in inputs.files),
        env=inputs.env,
        reduce=program.reduce,
        resources=_optional(top, "resources", _resources, _NEED),
        timeout=timeout,
        estimate=_estimate(top, timeout),
        price_per_hour_max=_optional(
            top, "max_price", lambda n, key: schema.money(n, key, 0), _DEFAULTS.price_per_hour_max
        ),
        spend_cap=_optional(top, "spend_cap", lambda node, key: schema.money(node, key, 1), _DEFAULTS.spend_cap),
        audit_ppm=_optional(top, "audit", schema.share, 0 if ports or shell else _DEFAULTS.audit_ppm),
        attempts_max=_optional(
            top, "attempts", lambda node, key: yaml_values.integer(node, key, 1, 16), _DEFAULTS.attempts_max
        ),
        fuel=_optional(top, "fuel", lambda node, key: yaml_values.integer(node, key, 1, 2**62), _DEFAULTS.fuel),
        numeric=read_numeric(top, program.runtime),
        placement=read_placement(top["placement"], "placement") if "placement" in top else UNSET,
        ports=ports,
        shell=shell,
        trees=inputs.trees,
        checkpoint=read_checkpoint(top["checkpoint"], "checkpoint") if "checkpoint" in top else UNSET,
        proof=read_proof(top["proof"], "proof") if "proof" in top else UNSET,
        trust=read_trust(top),
    )
    _check(spec, top, tree.place)
    return JobFile(spec, (*inputs.files, *inputs.blobs), inputs.notes)


def cache_folder() -> Path:
    """Where fetched repositories and packed pieces are kept between jobs."""
    return default_home(os.environ) / "cache"


def _optional(top: Mapping[str, Node], key: str, reader: Callable[[Node, str], T], default: T) -> T:
    return reader(top[key], key) if key in top else default


def _file_list(node: Node, key: str) -> tuple[Node, ...]:
    return yaml_values.items(node, key, "a list of files such as `- ./data:/data`")


def _span(node: Node, key: str) -> Micros:
    return schema.span(node, key, Micros(SECOND // 10), Micros(24 * HOUR))


def _check_type(top: Mapping[str, Node], place: Place) -> None:
    if "type" not in top:
        raise wrong(
            place, "type", "expected `type: task`, found nothing", "Begin with `type: task`.", code="missing_key"
        )
    kind = yaml_values.word(top["type"], "type", "`task`")
    if kind != "task":
        fix = "Only tasks are run: services and environments have no result that can be checked."
        raise yaml_values.mismatch(top["type"], "type", "`task`", fix)


def _name(top: Mapping[str, Node], place: Place) -> str:
    if "name" not in top:
        raise wrong(place, "name", f"expected {NAME_FORM}, found nothing", "Add `name: my-job`.", code="missing_key")
    text = yaml_values.word(top["name"], "name", NAME_FORM)
    if not _NAME.fullmatch(text):
        raise yaml_values.mismatch(
            top["name"], "name", NAME_FORM, "Use a-z, 0-9, dot, dash and underscore, up to 64 of them."
        )
    return text


def _estimate(top: Mapping[str, Node], timeout: Micros) -> Micros:
    """What a chunk is expected to take; never longer than it may take."""
    if "estimate" not in top:
        return min(_DEFAULTS.estimate, timeout)
    estimate = schema.span(top["estimate"], "estimate", Micros(1_000), Micros(24 * HOUR))
    if estimate > timeout:
        expected = f"at most the timeout, {timeout / SECOND:g} s"
        raise yaml_values.mismatch(top["estimate"], "estimate", expected, "Raise `timeout`, or lower `estimate`.")
    return estimate


def _resources(node: Node, key: str) -> Resources:
    need = yaml_values.pairs(node, key, RESOURCE_KEYS)
    cpus = (
        yaml_values.decimal(need["cpu"], f"{key}.cpu", "a number of cores such as 1 or 0.5") * 1000
        if "cpu" in need
        else None
    )
    if cpus is not None and not 100 <= cpus <= 256_000:
        raise yaml_values.mismatch(need["cpu"], f"{key}.cpu", "0.1 to 256 cores")

    def size(name: str, smallest: int, default: int) -> int:
        return schema.size(need[name], f"{key}.{name}", smallest, 1 << 50) if name in need else default

    return Resources(
        cpus_milli=_NEED.cpus_milli if cpus is None else int(cpus),
        memory_bytes=size("memory", 1 << 20, _NEED.memory_bytes),
        disk_bytes=size("disk", 1 << 20, _NEED.disk_bytes),
        shm_bytes=size("shm_size", 0, _NEED.shm_bytes),
        pids=yaml_values.integer(need["pids"], f"{key}.pids", 1, 4096) if "pids" in need else _NEED.pids,
        gpu=read_gpu(need["gpu"], f"{key}.gpu") if "gpu" in need else _NEED.gpu,
    )


def _check(spec: JobSpec, top: Mapping[str, Node], start: Place) -> None:
    """The protocol's own types and rules, told at the key that they are about."""
    try:
        wire.decode(wire.encode(spec), _SPECS, _NOBODY, size_max=SPEC_BYTES_MAX)
        jobrules.check(spec)
    except RemoteViolation as error:
        raise wrong(start, "", error.detail, "See specs/05-job.md for the bounds.", code=error.code) from error
    except Refused as error:
        pointer = str(error.numbers["pointer"])
        key = pointer.split("/")[1].removesuffix("_ppm").replace("trees", "volumes")
        node = top.get(key)
        if pointer.startswith(("/proof/", "/numeric")) and (found := inside(top.get("proof"), pointer)):
            node, key = found
        place = node.place if node is not None else start
        raise wrong(place, key, error.detail, error.fix, code=error.code) from error
