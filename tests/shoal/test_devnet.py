"""The plan, the files and the processes of a local network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from node.config import load
from protocol import genesis
from protocol.errors import Refused, Unavailable
from protocol.policy import Policy
from protocol.units import SECOND, Micros
from shoal import devnet, devnet_layout, processes
from shoal.devnet_state import DevnetState, GatewayEntry, NodeEntry, is_running, read_state, stored_state, write_state
from shoal.processes import Child, end_all, until


def test_a_network_has_a_steward_a_validator_and_its_providers(tmp_path: Path) -> None:
    plans = devnet_layout.node_plans(4, cheats=False)
    peers = devnet_layout.lay_out(tmp_path, plans)
    found = genesis.from_json((tmp_path / "genesis.json").read_bytes())
    assert len(found.validators) == 1
    assert sorted(kind for kind, _, _ in found.balances) == ["S", "S", "S", "S", "S", "U"]
    assert len(set(peers.values())) == 6
    assert len({plan.price for plan in plans if plan.slots}) == 4
    assert isinstance(found.policy, Policy) and found.policy.dispute_window == devnet_layout.WINDOW


def test_the_time_to_appeal_in_can_be_chosen(tmp_path: Path) -> None:
    devnet_layout.lay_out(tmp_path, devnet_layout.node_plans(1, cheats=False), Micros(30 * SECOND))
    found = genesis.from_json((tmp_path / "genesis.json").read_bytes())
    assert isinstance(found.policy, Policy) and found.policy.dispute_window == 30_000_000


@pytest.mark.parametrize("cheats", [False, True])
def test_every_written_configuration_is_one_that_a_node_reads(tmp_path: Path, cheats: bool) -> None:
    plans = devnet_layout.node_plans(2, cheats)
    peers = devnet_layout.lay_out(tmp_path, plans)
    bootstrap = [f"/ip4/127.0.0.1/tcp/1/p2p/{peers['steward']}"]
    for plan in plans:
        devnet_layout.write_config(
            tmp_path, plan, 4301, bootstrap, [peers["validator"]], {"torch": '/odd "path"/python'}
        )
        config = load({"data": tmp_path / plan.name}, {"SHOAL_TEST_ADVERSARY": "1"}).config
        assert (config.roles, config.slots, config.price_per_hour) == (plan.roles, plan.slots, plan.price)
        assert config.runtimes == {"torch": Path('/odd "path"/python')}
        assert config.genesis_file == tmp_path / "genesis.json"
        assert bool(config.misbehave) == (cheats and plan.name == "provider-1")


def test_ports_are_different() -> None:
    assert len(set(devnet_layout.free_ports(8))) == 8


def test_a_kept_port_is_open_to_who_names_it_and_to_nobody_else() -> None:
    """As a node's own probe does, and a listener that shares its port with dials (node/libp2p_rim.py)."""
    (held,) = devnet_layout.held_ports(1)
    with held:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, option, 1)
                listener.bind(("127.0.0.1", devnet_layout.port_of(held)))
                listener.listen()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", devnet_layout.port_of(held)))


def state_of(folder: Path, pid: int) -> DevnetState:
    gateway = GatewayEntry("http://127.0.0.1:1", "token", str(folder / "gateway"), pid)
    return DevnetState(
        "devnet",
        str(folder / "genesis.json"),
        gateway,
        (NodeEntry("steward", ("steward",), str(folder / "steward"), pid),),
    )


def test_the_state_file_is_ours_alone_and_outlives_its_processes(tmp_path: Path) -> None:
    write_state(tmp_path, state_of(tmp_path, os.getpid()))
    assert (tmp_path / "devnet.json").stat().st_mode & 0o777 == 0o600
    assert stored_state(tmp_path) == state_of(tmp_path, os.getpid())
    assert read_state(tmp_path) is None, "this process runs, but it is no gateway of that folder"
    (tmp_path / "devnet.json").write_text("{", encoding="utf-8")
    with pytest.raises(Refused, match="damaged"):
        read_state(tmp_path)


def sleeper(tmp_path: Path, *words: str, code: str = "import signal; signal.pause()") -> Child:
    return Child("sleeper", [sys.executable, "-c", code, *words], tmp_path / "log", dict(os.environ))


def test_a_process_is_ours_by_its_folder_and_gone_when_ended(tmp_path: Path) -> None:
    child = sleeper(tmp_path, str(tmp_path / "a"))
    try:
        assert until("it runs", lambda: is_running(child.pid, str(tmp_path / "a")) or None, [child], 60)
        assert not is_running(child.pid, str(tmp_path / "b"))
        assert end_all([child.pid]) == []
        assert not is_running(child.pid, str(tmp_path / "a"))
    finally:
        child.kill()


def test_a_process_that_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    code = "import signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print('ready', flush=True)\nwhile True: s.pause()"
    child = sleeper(tmp_path, code=code)
    try:
        until("it is ready", lambda: "ready" in child.log.read_text(encoding="utf-8") or None, [child], 60)
        assert end_all([child.pid], seconds=0.2) == [child.pid]
    finally:
        child.kill()


def test_a_process_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = sleeper(tmp_path, code="raise SystemExit('error: the disk is full')")
    with pytest.raises(Unavailable, match="the disk is full"):
        until("never", lambda: None, [child], 60)
    child.reap()


def test_patience_ends(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not after"):
        until("never", lambda: None, [], 0.01)


def test_ending_what_is_gone_is_no_error() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert end_all([done.pid]) == []


def test_settings_of_one_node_do_not_leak_into_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_DATA", "/somewhere")
    monkeypatch.setenv("SHOAL_HOME", "/home-of-shoal")
    environment = processes.shoal_environment(X="1")
    assert "SHOAL_DATA" not in environment
    assert (environment["SHOAL_HOME"], environment["X"]) == ("/home-of-shoal", "1")


def test_only_a_network_that_is_down_is_removed(tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("", encoding="utf-8")
    with pytest.raises(Refused, match="no network of ours"):
        devnet.remove(strange)
    ours = tmp_path / "ours"
    ours.mkdir()
    write_state(ours, state_of(ours, 1))
    devnet.remove(ours)
    assert not ours.exists()
    devnet.remove(ours)
