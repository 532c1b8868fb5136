"""The whole system as real processes: jobs are done, checked and paid while parts of it are killed, frozen or full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from shoal import receipts
from shoal.processes import shoal_command, shoal_environment
from tests.end_to_end.conftest import WAITS, Network

SHORT = "commands: ['echo working on $SHOAL_CHUNK', 'echo $SHOAL_CHUNK > $SHOAL_OUT/n']\n"
SLOW = f"commands: ['echo started', '{WAITS}', 'echo $SHOAL_CHUNK > $SHOAL_OUT/n']\nestimate: 5s\n"
"""It is struck while it computes."""


def test_a_job_over_http_is_settled_and_its_receipt_verifies_offline(network: Network, tmp_path: Path) -> None:
    job = network.run("script", SHORT + "chunks: 4\nreduce: cat $SHOAL_IN/chunks/*/n > $SHOAL_OUT/all\n")
    status = network.settled(job)
    saved = network.client.result(job, tmp_path)
    assert [(one.path.name, one.path.read_text()) for one in saved] == [("all", "0\n1\n2\n3\n")]
    assert {line.line for line in network.client.logs(job, follow=False)} >= {f"working on {n}" for n in range(4)}
    account = network.account(network.client.receipt(job))
    files = [(one.listed.chunk or 0, one.listed.path, one.listed.digest, one.listed.size) for one in saved]
    assert receipts.verify_outputs(account, files, has_reduce=True) == 1
    assert status.money is not None
    assert (account.paid, account.commission) == (status.money.paid, status.money.commission)
    assert account.commission * 10 >= account.paid + account.commission > 0


def test_a_provider_killed_at_work_costs_one_attempt(network: Network) -> None:
    job = network.run("killed-provider", SLOW + "chunks: 2\n")
    struck = network.running(job)
    name = network.name(struck.provider)
    network.devnet.kill(name)
    try:
        chunk = network.settled(job, waits="*").chunks[struck.index]
        assert chunk.attempts[0].end == "dead"
        assert chunk.epoch >= 2 and network.name(chunk.provider) != name
    finally:
        network.devnet.restart(name)


def test_a_killed_gateway_stops_no_job_and_finds_it_again(network: Network) -> None:
    job = network.run("killed-gateway", SLOW + "chunks: 2\n")
    network.running(job)
    network.devnet.kill("gateway")
    try:

        def look() -> object:
            network.let_end()
            return network.ask("steward", "job.status", job=job)["accepted"] or None

        seen = network.wait("the job goes on", look)
    finally:
        network.devnet.restart("gateway")
    assert seen
    assert job in [one.job for one in network.client.list()]
    network.settled(job, waits="*")


def test_a_killed_steward_goes_on_where_it_was(network: Network) -> None:
    job = network.run("killed-steward", SLOW + "chunks: 4\n")
    network.running(job)
    network.devnet.kill("steward")
    network.devnet.restart("steward")
    status = network.settled(job, waits="*")
    assert network.account(network.client.receipt(job)).paid == (status.money and status.money.paid)


def test_a_killed_validator_loses_no_block(network: Network) -> None:
    job = network.run("killed-validator", SLOW + "chunks: 4\n")
    network.running(job)
    height = network.height("validator")
    assert height > 0
    network.devnet.kill("validator")
    network.devnet.restart("validator")
    assert network.height("validator") >= height
    network.settled(job, waits="*")
    assert network.account(network.client.receipt(job)).paid > 0
    assert network.height("validator") > height


def test_a_frozen_provider_is_fenced_and_harms_nothing_when_it_wakes(network: Network) -> None:
    job = network.run("frozen-provider", SLOW + "chunks: 2\n")
    struck = network.running(job)
    name = network.name(struck.provider)
    pid = network.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        network.wait(
            "the lease goes to somebody else",
            lambda: network.client.status(job).chunks[struck.index].epoch >= 2 or None,
        )
    finally:
        os.kill(pid, signal.SIGCONT)
    status = network.settled(job, waits="*")
    chunk = status.chunks[struck.index]
    assert chunk.epoch >= 2 and chunk.attempts[0].end != "accepted"
    assert network.name(chunk.attempts[0].provider) == name
    account = network.account(network.client.receipt(job))
    assert sum(lease.chunk == struck.index and lease.outcome == "accept" for lease in account.leases.values()) == 1
    network.wait("it is free again", lambda: network.ask(name, "node.status")["slots_free"] or None)
    after = network.settled(network.run("after-the-thaw", SHORT + "chunks: 6\n"))
    assert after.reason in (None, "")


def test_what_the_machine_can_do_is_measured_by_one_node_for_all(network: Network) -> None:
    figures = {(network.devnet.folder / node.name / "capability.json").read_bytes() for node in network.state.nodes}
    assert len(figures) == 1, "each measured it again: the time of the measurement is in it"


def test_a_second_node_on_one_data_directory_is_refused(network: Network) -> None:
    data = network.devnet.folder / "provider-1"
    command = shoal_command("node", "run", "--data", str(data))
    refused = subprocess.run(command, env=shoal_environment(), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 3, refused.stderr
    assert f"process {network.pid('provider-1')} already runs a node on {data}" in refused.stderr
    assert "shoal node stop" in refused.stderr
    assert network.ask("provider-1", "node.status")["network"] == network.state.network


def test_a_provider_with_a_full_disk_gives_its_work_to_others(network: Network) -> None:
    network.devnet.kill("provider-1")
    config = network.devnet.folder / "provider-1" / "config.toml"
    whole = config.read_text(encoding="utf-8")
    config.write_text(whole.replace("slots =", "blob_bytes_max = 1048576\nslots =", 1), encoding="utf-8")
    network.devnet.restart("provider-1")
    try:
        network.joined("provider-1")
        text = f"commands: ['head -c 3000000 /dev/zero > $SHOAL_OUT/zeros', '{WAITS}']\nchunks: 6\nestimate: 5s\n"
        job = network.run("full-disk", text)
        network.running(job, 3)  # So that one of them is there.
        status = network.settled(job, waits="*")
        assert all(network.name(chunk.provider) != "provider-1" for chunk in status.chunks)
        attempts = [attempt for chunk in status.chunks for attempt in chunk.attempts]
        lost = [attempt.end or "" for attempt in attempts if network.name(attempt.provider) == "provider-1"]
        assert lost and all("bytes do not fit" in end for end in lost)
    finally:
        network.devnet.kill("provider-1")
        config.write_text(whole, encoding="utf-8")
        network.devnet.restart("provider-1")


def test_a_node_tells_its_paths_and_the_doctor_reads_them(network: Network) -> None:
    def look() -> dict[str, set[str]] | None:
        peers = network.ask("provider-1", "network.status")["peers"]
        assert isinstance(peers, list)
        kinds = {network.name(peer["peer"]): {path["kind"] for path in peer["paths"]} for peer in peers}
        return kinds if {"steward", "validator"} <= kinds.keys() and all(kinds.values()) else None

    assert set().union(*network.wait("provider-1 has paths", look).values()) == {"direct"}
    command = [sys.executable, "-m", "shoal", "doctor", "--json", "--data", str(network.devnet.folder / "provider-1")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    names = {check["name"] for check in json.loads(told.stdout)["checks"]}
    assert {"reachability", "relays"} <= names, names
