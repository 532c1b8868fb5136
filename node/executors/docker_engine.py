"""The Docker engine, spoken to over its own socket: the strongest tier, with every limit that the engine has.

API 1.41 (Engine 20.10) and later. Nothing is polled: output and end are waited for, and the engine keeps
no log. Containers carry the label
`shoal=<node>`, by which leftovers of a killed node are found.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

import httpx2
import trio

from node.executors import host_image
from node.executors.door import Doorway
from node.executors.interface import OPEN_FILES_MAX, Exit, OnLine, Task, environment, exit_of, write_script
from node.executors.loglines import LogLines
from protocol.errors import Refused
from protocol.jobspec import JobSpec

API: Final = "/v1.41"
"""The engine API that everything here needs: Engine 20.10 of December 2020."""

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
LABEL: Final = "shoal"
JOB_UID: Final = 1000
ANSWER_SECONDS: Final = 60.0
"""An engine under load takes seconds to start a container; one that needs a minute is broken."""

PULL_SECONDS: Final = 600.0
"""A large image over a slow line."""

FRAME_HEADER_BYTES: Final = 8
SHIM: Final = "/run/shoal"


def socket_path() -> str:
    """The engine's socket from DOCKER_HOST or the usual place; Refused for engines that are not on this machine."""
    host = os.environ.get("DOCKER_HOST", "")
    if not host:
        return DEFAULT_SOCKET
    if not host.startswith("unix://"):
        raise Refused(
            f"DOCKER_HOST={host} is not on this machine",
            code="no_engine",
            fix="Use a unix:// socket: jobs' files are mounted.",
        )
    return host.removeprefix("unix://")


running: Final[set[str]] = set()
"""Ids of the containers that this process runs now: what computes in them is not the machine's owner."""


class DockerExecutor:
    """Tier `docker`. `label` = this node; `images` = folder for root file systems."""

    tier: ClassVar[str] = "docker"
    protects_inputs: ClassVar[bool] = True

    def __init__(self, label: str, images: Path) -> None:
        self._label = label
        self._images = images
        self._building = trio.Lock()

    async def why_not(self) -> str:
        """Asks the engine for its version."""
        try:
            async with _engine() as engine:
                answer = await engine.get(f"{API}/info")
                answer.raise_for_status()
                facts = answer.json()
        except (Refused, httpx2.HTTPError, OSError, ValueError) as error:
            return f"no Docker engine answers: {error}"
        if facts.get("OSType") != "linux":
            return f"the Docker engine runs {facts.get('OSType')} containers, Linux ones are needed"
        lacking = [name for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if not facts.get(name)]
        return f"the Docker engine cannot enforce {', '.join(lacking)}" if lacking else ""

    def refuses(self, spec: JobSpec) -> str:
        """Everything but modules."""
        return "the Docker engine does not run WASM modules" if spec.runtime == "wasm" else ""

    async def clean(self) -> None:
        """Remove every container that carries this node's label."""
        try:
            async with _engine() as engine:
                filters = quote(json.dumps({"label": [f"{LABEL}={self._label}"]}))
                for container in (await engine.get(f"{API}/containers/json?all=1&filters={filters}")).json():
                    await _remove(engine, container["Id"])
        except (Refused, httpx2.HTTPError, OSError):
            return  # No engine, no containers.

    async def run(self, task: Task, on_line: OnLine) -> Exit:
        """Run the task's script in a container; see the protocol `Executor`."""
        write_script(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
        try:
            async with _engine() as engine:
                image = await self._image(engine, task)
                return await self._run(engine, task, image, on_line)
        except (httpx2.HTTPError, OSError) as error:
            return Exit("sandbox", 0, f"the Docker engine failed: {error!r}")

    async def _run(self, engine: httpx2.AsyncClient, task: Task, image: str, on_line: OnLine) -> Exit:
        if os.geteuid() == 0:
            for folder, _ in task.shared:
                os.chown(folder, JOB_UID, JOB_UID)
        answer = await engine.post(f"{API}/containers/create", json=container(task, image, self._label))
        if answer.status_code != 201:
            return Exit("sandbox", 0, f"the Docker engine refused the container: {_message(answer)}")
        identity = answer.json()["Id"]
        running.add(identity)
        try:
            attach = f"{API}/containers/{identity}/attach?stream=1&stdout=1&stderr=1"
            async with engine.stream("POST", attach, timeout=None) as output:
                started = await engine.post(f"{API}/containers/{identity}/start")
                if started.status_code != 204:
                    return Exit("sandbox", 0, f"the container did not start: {_message(started)}")
                await _open_door(engine, task, identity)
                await _follow(output, on_line)
            waited = await engine.post(f"{API}/containers/{identity}/wait", timeout=None)
            state = (await engine.get(f"{API}/containers/{identity}/json")).json()["State"]
        finally:
            running.discard(identity)
            with trio.CancelScope(shield=True):
                await _remove(engine, identity)
        code = int(waited.json()["StatusCode"])
        if state.get("OOMKilled"):
            return Exit("memory", code, f"the job used more than {task.resources.memory_bytes} bytes of memory")
        return exit_of(code)

    async def _image(self, engine: httpx2.AsyncClient, task: Task) -> str:
        """The name of an image that the engine has: built from this host for runtimes, pulled for `image:` jobs."""
        async with self._building:
            if task.runtime is None:
                return await _pulled(engine, task.image)
            name = host_image.image_name(task.runtime)
            if (await engine.get(f"{API}/images/{name}/json")).status_code == 200:
                return name
            root = await trio.to_thread.run_sync(host_image.build, task.runtime, self._images)
            with tempfile.TemporaryFile() as file:
                await trio.to_thread.run_sync(host_image.pack, root, file)
                file.seek(0)
                repository, tag = name.split(":")
                answer = await engine.post(
                    f"{API}/images/create?fromSrc=-&repo={repository}&tag={tag}", content=_pieces(file.fileno())
                )
            if answer.status_code != 200 or b'"error"' in answer.content:
                raise Refused(f"the engine did not import the host's image: {_message(answer)}", code="no_image")
            return name


async def _open_door(engine: httpx2.AsyncClient, task: Task, identity: str) -> None:
    """The engine tells the container's first process, which is 0 once it has ended."""
    state = (await engine.get(f"{API}/containers/{identity}/json")).json().get("State", {})
    if first := int(state.get("Pid", 0)):
        variables = environment(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
        uid = JOB_UID if os.geteuid() == 0 else os.getuid()
        task.life.first = lambda: first
        task.door.open(Doorway(task.life.first, identity, uid, variables, SHIM))


def container(task: Task, image: str, label: str) -> dict[str, object]:
    """The body of `POST /containers/create`: every limit on. Pure, so that a test can read it."""
    resources = task.resources
    uid = JOB_UID if os.geteuid() == 0 else os.getuid()
    mounts = [
        _mount(task.inside, "/in", True),
        *(_mount(folder, target, False) for folder, target in task.shared),
        *(_mount(folder, target, True) for folder, target in task.shown),
        _mount(task.folder / "run", SHIM, True),
    ]
    mounts += [_mount(folder, str(folder), True) for folder in (task.runtime.folders if task.runtime else ())]
    limits = {"nofile": OPEN_FILES_MAX, "fsize": task.largest_file, "core": 0}
    host: dict[str, object] = {
        "NetworkMode": "none",
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_bytes,
        "NanoCpus": min(resources.cpus_milli, (os.cpu_count() or 1) * 1000) * 1_000_000,
        "PidsLimit": resources.pids,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={task.tmp_bytes},mode=1777"},
        "Ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in limits.items()],
        "Init": True,
        "IpcMode": "private",
        "ShmSize": max(resources.shm_bytes, 4096),
        "OomScoreAdj": 500,
        "LogConfig": {"Type": "none", "Config": {}},
        "Mounts": mounts,
    }
    if resources.gpu.count:
        host["DeviceRequests"] = [{"Driver": "nvidia", "Count": resources.gpu.count, "Capabilities": [["gpu"]]}]
    return {
        "Image": image,
        "Entrypoint": ["/bin/sh", "-e", f"{SHIM}/script"],
        "Cmd": [],
        "User": f"{uid}:{uid}",
        "WorkingDir": "/in",
        "Hostname": "job",
        "NetworkDisabled": True,
        "Labels": {LABEL: label},
        "HostConfig": host,
    }


def _mount(source: Path, target: str, is_readonly: bool) -> dict[str, object]:
    return {"Type": "bind", "Source": str(source.absolute()), "Target": target, "ReadOnly": is_readonly}


@asynccontextmanager
async def _engine() -> AsyncIterator[httpx2.AsyncClient]:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # A local socket needs no certificate: none is loaded.
    transport = httpx2.AsyncHTTPTransport(uds=socket_path(), verify=nobody)
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine", timeout=ANSWER_SECONDS) as client:
        yield client


async def _follow(output: httpx2.Response, on_line: OnLine) -> None:
    """Hand out the container's lines until it ends: frames of stream number, three zeros, length, bytes."""
    lines = LogLines(on_line)
    buffer = b""
    async for piece in output.aiter_raw():
        buffer += piece
        while len(buffer) >= FRAME_HEADER_BYTES:
            end = FRAME_HEADER_BYTES + int.from_bytes(buffer[4:FRAME_HEADER_BYTES], "big")
            if len(buffer) < end:
                break
            lines.feed(buffer[FRAME_HEADER_BYTES:end])
            buffer = buffer[end:]
    lines.close()


async def _remove(engine: httpx2.AsyncClient, identity: str) -> None:
    """Kill and delete a container; gone already is fine."""
    await engine.delete(f"{API}/containers/{identity}?force=1&v=1")


async def _pulled(engine: httpx2.AsyncClient, reference: str) -> str:
    if (await engine.get(f"{API}/images/{quote(reference, safe='/:@')}/json")).status_code == 200:
        return reference
    path = f"{API}/images/create?fromImage={quote(reference, safe='')}"
    if "@" not in reference and ":" not in reference.rpartition("/")[2]:
        path += "&tag=latest"
    answer = await engine.post(path, timeout=PULL_SECONDS)
    if answer.status_code != 200 or b'"error"' in answer.content:
        raise Refused(
            f"the image {reference[:120]!r} is not here and cannot be pulled: {_message(answer)}",
            code="no_image",
            fix="Check the reference, or load the image into the provider's engine.",
        )
    return reference


async def _pieces(fd: int) -> AsyncIterator[bytes]:
    while piece := os.read(fd, 1 << 20):
        yield piece
        await trio.lowlevel.checkpoint()


def _message(answer: httpx2.Response) -> str:
    """The engine's own words, shortened."""
    text = answer.text.strip().splitlines()[-1] if answer.text.strip() else str(answer.status_code)
    try:
        value = json.loads(text)
    except ValueError:
        return text[:300]
    return str(value.get("message") or value.get("error") or value)[:300] if isinstance(value, dict) else text[:300]
