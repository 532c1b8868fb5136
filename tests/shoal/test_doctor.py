"""`shoal doctor`: the same with and without `node`, and its last line is the one thing to fix."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from shoal import exits
from shoal.cli import main
from shoal.commands.node import _live_network


@pytest.mark.parametrize("words", [["doctor"], ["node", "doctor"]])
def test_the_last_line_is_the_one_thing_to_fix(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--data", str(tmp_path), "--listen", "/ip4/999.1.1.1/tcp/0"])
    assert code == exits.REFUSED
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "fix first: Write it like /ip4/0.0.0.0/tcp/4301."


def test_json_has_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--data", str(tmp_path), "--listen", "/ip4/0.0.0.0/tcp/0", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert {"route", "ipv6"} <= {check["name"] for check in report["checks"]}
    assert isinstance(report["fix_first"], str)


def test_a_socket_of_nobody_is_no_running_node(tmp_path: Path) -> None:
    assert _live_network(tmp_path / "control.sock") is None
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "control.sock"))
    assert _live_network(tmp_path / "control.sock") is None


def test_a_node_that_hangs_up_is_a_running_node(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()
        server.settimeout(5)

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert _live_network(tmp_path / "control.sock") == {}
        thread.join()
