"""The command line as a process and as a function."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.cli import build_parser, main

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in ("SHOAL_GATEWAY", "SHOAL_TOKEN", "SHOAL_DATA"):
        monkeypatch.delenv(name, raising=False)


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(answer.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("from shoal.cli import build_parser; build_parser().format_help()")
    assert not loaded & {
        "trio",
        "libp2p",
        "httpx2",
        "msgspec",
        "sqlalchemy",
        "starlette",
        "rich",
        "nacl",
        "yaml",
        "shtab",
    }


def test_the_library_loads_neither_the_network_nor_http() -> None:
    loaded = modules_after("import shoal.client")
    assert not loaded & {"trio", "libp2p", "httpx2", "sqlalchemy", "starlette"}


def test_a_terminal_that_asks_a_node_needs_no_trio() -> None:
    assert "trio" not in modules_after("import node.control_client, node.config")


def test_every_command_says_what_it_is_and_takes_json(capsys: pytest.CaptureFixture[str]) -> None:
    leaves = 0
    for words in leaf_commands():
        with pytest.raises(SystemExit) as caught:
            build_parser().parse_args([*words, "--help"])
        assert caught.value.code == 0
        assert "--json" in capsys.readouterr().out
        leaves += 1
    assert leaves >= 24


def leaf_commands() -> list[list[str]]:
    from shoal.commands.completion import _choices

    parser = build_parser()
    nouns = [(noun, list(dict(_choices(inner)))) for noun, inner in _choices(parser)]
    return [[noun, verb] if verb else [noun] for noun, verbs in nouns for verb in verbs or [""]]


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        ([], 2, "usage"),
        (["fly"], 2, "usage"),
        (["job"], 2, "usage"),
        (["job", "frobnicate"], 2, "usage"),
        (["job", "submit"], 2, "usage"),
        (["node", "run", "--slots"], 2, "usage"),
        (["node", "run", "--slots", "x"], 2, "bad_config"),
        (["node", "run", "--price", "-1"], 2, "bad_amount"),
        (["node", "run", "--config", "none.toml"], 2, "bad_config"),
        (["node", "run"], 2, "bad_genesis"),
        (["node", "status"], 4, "node_unreachable"),
        (["node", "price", "1,5"], 2, "bad_amount"),
        (["node", "earnings", "--data", "nowhere"], 4, "node_unreachable"),
        (["job", "list"], 2, "no_gateway"),
        (["job", "list", "--gateway", "ftp://x", "--token", "t"], 2, "bad_url"),
        (["job", "list", "--gateway", "http://127.0.0.1:9", "--token", "t\nX: y"], 2, "bad_token"),
        (["job", "submit", "none.yml", "-y", "--gateway", "http://127.0.0.1:9", "--token", "t"], 2, "file_missing"),
        (["job", "submit", "job.yml", "--gateway", "http://127.0.0.1:9", "--token", "t"], 2, "usage"),
        (["devnet", "down", "--remove"], 2, "usage"),
        (["job", "receipt", "job_1", "--from", "none.receipt"], 2, "file_missing"),
        (["account", "deposit", "lots"], 2, "bad_amount"),
        (["gateway", "run"], 4, "node_unreachable"),
        (["gateway", "token", "--name", "Not A Name"], 2, "bad_name"),
        (["devnet", "up", "--providers", "0"], 2, "usage"),
        (["completion", "tcsh"], 2, "usage"),
    ],
)
def test_wrong_input_gets_a_cause_a_fix_and_an_exit_code(
    words: list[str],
    exit_code: int,
    code: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--json"]) == exit_code
    captured = capsys.readouterr()
    error = json.loads(captured.err.strip().splitlines()[-1])["error"]
    assert error["code"] == code
    assert error["fix"]
    assert captured.out == ""


def test_settings_are_shown_with_their_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_SLOTS", "3")
    assert main(["node", "config", "--price", "0.75", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["price_per_hour"] == {"value": 750_000, "origin": "flag"}
    assert found["slots"] == {"value": 3, "origin": "environment"}
    assert found["network"]["origin"] == "default"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("devnet", "doctor", "earnings", "receipt", "genesis", "follow"):
        assert word in script


def test_a_completion_script_is_valid_bash(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    assert subprocess.run(["bash", "-n"], input=capsys.readouterr().out, text=True).returncode == 0


def test_a_token_is_made_once_and_shown_on_stdout_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["gateway", "token", "--data", str(tmp_path / "gw"), "--name", "alice"]) == 0
    captured = capsys.readouterr()
    token = captured.out.strip()
    assert token.startswith("shoal_")
    assert token not in captured.err


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m shoal completion bash | head -1"
    answer = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (answer.returncode, "Traceback" in answer.stderr) == (0, False)
