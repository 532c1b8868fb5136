"""Volumes on the whole network: into a job and out of it, and back when the node that kept them is killed."""

from __future__ import annotations

import os
from pathlib import Path

from node.control_client import ControlClient
from protocol.jobspec import FILES_MAX
from protocol.units import MIB
from shoal.volume_line import GatewayLine, NodeLine, Plain, VolumeLine
from shoal.volume_transfer import get, put
from tests.end_to_end.conftest import PATIENCE_S, Network


def nothing(done: int, total: int, moved: int) -> None:
    """No progress line."""


def spread(network: Network, line: VolumeLine, name: str) -> Plain:
    """Wait until others hold all of it."""

    def look() -> Plain | None:
        volume = line.ask("show", name=name)
        return volume if volume["is_spread"] and volume["heads"] else None

    return network.wait(f"{name} is held by others", look)


def newest(network: Network, line: VolumeLine, name: str, count: int) -> None:
    """Wait until a volume has so many versions."""

    def look() -> bool | None:
        versions = line.ask("show", name=name)["versions"]
        return True if isinstance(versions, list) and len(versions) == count else None

    network.wait(f"{name} has {count} versions", look)


def test_a_job_reads_one_volume_and_writes_another_and_is_audited(network: Network, tmp_path: Path) -> None:
    line = GatewayLine(network.client)
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "big.bin").write_bytes(os.urandom(3 * MIB))
    (source / "sub" / "a.txt").write_text("alpha\n")
    for name in ("reads", "writes"):
        line.ask("create", name=name)
    put(line, "reads", source, "first", nothing)
    text = (
        "volumes: {reads: {mount: /vol/reads, version: first}, writes: {mount: /vol/writes, write: true}}\n"
        "commands: ['cat $SHOAL_VOLUME_READS/sub/a.txt >> $SHOAL_VOLUME_WRITES/seen',"
        " 'wc -c < $SHOAL_VOLUME_READS/big.bin']\naudit: 1\n"
    )
    for turn in (1, 2):
        job = network.run(f"with-volumes-{turn}", text)
        status = network.settled(job)
        assert all(chunk.is_audited for chunk in status.chunks)
        assert str(3 * MIB) in [entry.line for entry in network.client.logs(job, follow=False)]
        newest(network, line, "writes", turn)
        get(line, "writes", "", tmp_path / f"out-{turn}", "", nothing)
        assert (tmp_path / f"out-{turn}" / "seen").read_text() == "alpha\n" * turn


def test_code_of_many_files_comes_as_one_tree(network: Network) -> None:
    code = network.folder / "code"
    code.mkdir()
    for number in range(FILES_MAX + 10):
        (code / f"{number:05}.txt").write_text(str(number))
    job = network.run("many-files", "repo: ./code\ncommands: ['ls code | wc -l', 'cat code/02050.txt']\n")
    network.settled(job)
    assert [entry.line for entry in network.client.logs(job, follow=False)][:1] == [str(FILES_MAX + 10)]


def test_a_volume_is_recovered_elsewhere_when_its_node_is_killed(network: Network, tmp_path: Path) -> None:
    line = GatewayLine(network.client)
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious.bin").write_bytes(os.urandom(2 * MIB))
    line.ask("create", name="precious")
    put(line, "precious", source, "", nothing)
    spread(network, line, "precious")
    key = str(line.ask("key")["key"])
    network.devnet.kill("steward")
    try:
        with ControlClient(network.devnet.folder / "provider-2" / "control.sock", PATIENCE_S) as node:
            found = node.call("volume.recover", {"key": key})
            heir = NodeLine(node, str(found["renter"]))
            get(heir, "precious", "", tmp_path / "back", "", nothing)
    finally:
        network.devnet.restart("steward")
    assert (tmp_path / "back" / "precious.bin").read_bytes() == (source / "precious.bin").read_bytes()
