"""shoal.jobfile: what a job file says, and what is said about a bad one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol import yaml_nodes
from protocol.errors import Refused
from protocol.jobspec import Chunk, FileRef, GpuNeed, JobSpec, Resources
from protocol.units import Credits, Micros
from shoal.jobfile import load, read

START = "type: task\nname: x\ncommands: [a]\n"
WHOLE = """\
type: task                     # a comment
name: sweep-1
runtime: torch
commands:
  - python train.py --lr $LR
  - |
    for i in 1 2; do
      echo "$i"
    done
files: [main.py, ./data:/d, data/a.txt:/in/renamed.txt]
matrix: {LR: [0.1, 1e-3], SIZE: [yes, "64"]}
env: {A: no, B: 0x10, C: "quoted: text"}
reduce: python best.py
resources: {cpu: 1.5, memory: 32GB.., disk: 100GB, shm_size: 8GiB, pids: 64, gpu: "24GB..:1"}
timeout: 1h30m
estimate: 90s
max_price: 0.60
spend_cap: "20"
audit: 25%
attempts: 3
numeric: D0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text("print(1)\n")
    (tmp_path / "run.sh").write_text("echo\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "m.wasm").write_bytes(b"\0asm\1\0\0\0")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "deep" / "b.txt").write_text("b")
    (tmp_path / "data" / ".git").mkdir()
    (tmp_path / "data" / ".git" / "HEAD").write_text("x")
    (tmp_path / "linked").symlink_to("main.py")
    (tmp_path / "escaping").symlink_to("/etc/hostname")
    (tmp_path / "holes").mkdir()
    (tmp_path / "holes" / "out").symlink_to("/etc")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "looped").symlink_to("looped")
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "0").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def reference(path: str, content: bytes) -> FileRef:
    return FileRef(path, blake3(content).digest(), len(content))


def test_every_key(folder: Path) -> None:
    found = read(WHOLE, folder, {})
    assert found.spec == JobSpec(
        name="sweep-1",
        runtime="torch",
        commands=("python train.py --lr $LR", 'for i in 1 2; do\n  echo "$i"\ndone'),
        chunks=tuple(Chunk((("LR", lr), ("SIZE", size))) for lr in ("0.1", "1e-3") for size in ("yes", "64")),
        files=(
            reference("d/a.txt", b"a"),
            reference("d/deep/b.txt", b"b"),
            reference("main.py", b"print(1)\n"),
            reference("renamed.txt", b"a"),
        ),
        env=(("A", "no"), ("B", "0x10"), ("C", "quoted: text")),
        reduce=("python best.py",),
        resources=Resources(1500, 32 << 30, 100 << 30, 8 << 30, 64, GpuNeed("", (), 24 * 10**9, 0, 1)),
        timeout=Micros(5_400_000_000),
        estimate=Micros(90_000_000),
        price_per_hour_max=Credits(600_000),
        spend_cap=Credits(20_000_000),
        audit_ppm=250_000,
        attempts_max=3,
        numeric="D0",
    )
    assert [file.source.name for file in found.files] == ["a.txt", "b.txt", "main.py", "a.txt"]


def test_defaults_are_the_specification_s(folder: Path) -> None:
    assert read(START, folder, {}).spec == JobSpec("x", "python", ("a",), (Chunk(),))


def test_estimate_is_never_longer_than_the_timeout(folder: Path) -> None:
    assert read(START + "timeout: 5s\n", folder, {}).spec.estimate == 5_000_000


@pytest.mark.parametrize(
    ("line", "runtime"),
    [
        ("python: 3.11", "python"),
        ("image: ghcr.io/me/train:1", "image:ghcr.io/me/train:1"),
        ("runtime: python", "python"),
    ],
)
def test_runtimes(line: str, runtime: str, folder: Path) -> None:
    assert read(f"{START}{line}\n", folder, {}).spec.runtime == runtime


def test_wasm_is_one_line_and_sends_its_module(folder: Path) -> None:
    spec = read("type: task\nname: w\nwasm: ./m.wasm 5 'a b'\nreduce: m.wasm sum\nchunks: 3\n", folder, {}).spec
    assert (spec.runtime, spec.numeric, len(spec.chunks)) == ("wasm", "D0", 3)
    assert spec.commands == ("m.wasm 5 'a b'",)
    assert spec.reduce == ("m.wasm sum",)
    assert [file.path for file in spec.files] == ["m.wasm"]


def test_chunks_as_a_list_of_variables(folder: Path) -> None:
    spec = read(START + "chunks: [{A: 1}, {A: 2, B: x}]\n", folder, {}).spec
    assert spec.chunks == (Chunk((("A", "1"),)), Chunk((("A", "2"), ("B", "x"))))


def test_env_from_a_list_and_the_environment(folder: Path) -> None:
    spec = read(START + "env: [A=1, B=x=y, TOKEN]\n", folder, {"TOKEN": "secret", "OTHER": "no"}).spec
    assert spec.env == (("A", "1"), ("B", "x=y"), ("TOKEN", "secret"))


def test_files_know_whether_they_can_be_executed(folder: Path) -> None:
    files = read(START + "files: [run.sh, main.py, linked:/x]\n", folder, {}).spec.files
    assert [(file.path, file.executable) for file in files] == [("main.py", False), ("run.sh", True), ("x", False)]


def test_a_folder_named_twice_is_sent_once(folder: Path) -> None:
    files = read(START + "files: [data, ./data, data/a.txt]\n", folder, {}).spec.files
    assert [file.path for file in files] == ["data/a.txt", "data/deep/b.txt"]


def test_a_relative_path_of_the_job_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "job.yml").write_text(START + "files: [data]\n")
    monkeypatch.chdir(folder)
    assert len(load(Path("job.yml"), {}).files) == 2


def test_load_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"none\.yml cannot be read") as caught:
        load(tmp_path / "none.yml", {})
    assert caught.value.code == "file_missing"


def test_load_names_the_line_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_bytes(b"type: task\nname: \xff\n")
    with pytest.raises(Refused, match=r"job\.yml:2:1: not UTF-8"):
        load(tmp_path / "job.yml", {})


def test_load_bounds_the_size(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_bytes("# ü\n".encode() * 20_000)
    with pytest.raises(Refused, match="at most 65536") as caught:
        load(tmp_path / "job.yml", {})
    assert caught.value.code == "over_limit"


# (text, where it points, code, part of the detail, part of the fix)
BAD: list[tuple[str, str, str, str, str]] = [
    ("", "1:1", "bad_yaml", "empty", "type: task"),
    ("# only a comment\n", "1:1", "bad_yaml", "empty", ""),
    ("- a\n", "1:1", "bad_job_file", "found a list", ""),
    ("task\n", "1:1", "bad_job_file", "found `task`", ""),
    ("name: x\n", "1:1", "missing_key", "type", "type: task"),
    ("type: task\ncommands: [a]\n", "1:1", "missing_key", "name", "name: my-job"),
    ("type: task\nname: x\n", "1:1", "missing_key", "commands", "commands: ["),
    ("type: service\nname: x\n", "1:7", "bad_job_file", "found `service`", "Only tasks"),
    ("type: task\n\tname: x\n", "2:1", "bad_yaml", "tab", "spaces"),
    ("type: task\nname: [x\n", "3:1", "bad_yaml", "not YAML", "brackets"),
    ("type: task\nname: 'x\n", "3:1", "bad_yaml", "not YAML", "quotes"),
    ("type: task: x\n", "1:11", "bad_yaml", "`:`", "Quote"),
    ("type: task\n  name: x\n", "2:7", "bad_yaml", "`:`", ""),
    ("type: task\0\n", "1:1", "bad_yaml", "not YAML", "UTF-8"),
    ("a: &a [x]\nb: *a\n", "1:4", "bad_yaml", "anchors", "Write the value out"),
    ("a: *nowhere\n", "1:4", "bad_yaml", "anchors", ""),
    ("type: !!python/object/apply:os.system [x]\n", "1:7", "bad_yaml", "tags", ""),
    ("type: !!str task\n", "1:7", "bad_yaml", "tags", ""),
    ("<<: {a: 1}\n", "1:1", "bad_yaml", "plain word", ""),
    ("? [a]\n: b\n", "1:3", "bad_yaml", "plain word", ""),
    (START + "---\ntype: task\n", "4:1", "bad_yaml", "second document", ""),
    (START + "name: y\n", "4:1", "bad_yaml", "twice, first in line 2", "Keep one"),
    (START + "env: {A: 1, A: 2}\n", "4:13", "bad_yaml", "env.A", ""),
    ("[" * 12, "1:9", "over_limit", "deeper", ""),
    ("a: [" + "0," * 21_000 + "0]", "1:", "over_limit", "20000 values", ""),
    ("#" * 70_000, "1:1", "over_limit", "at most 65536", "files beside"),
    (START + "comands: [b]\n", "4:1", "unknown_key", "comands", "Did you mean `commands`?"),
    (START + "resource: {}\n", "4:1", "unknown_key", "resource", "Did you mean `resources`?"),
    (START + "nodes: 2\n", "4:1", "unknown_key", "nodes", "chunks"),
    (START + "trust: 0.99\n", "4:8", "bad_job_file", "trust", "basic"),
    (START + "zebra: 1\n", "4:1", "unknown_key", "zebra", "Known keys"),
    (START + "resources: {memroy: 1GB}\n", "4:13", "unknown_key", "resources.memroy", "Did you mean `memory`?"),
    (START + "resources: 4\n", "4:12", "bad_job_file", "expected a map", ""),
    (START + "resources: {memory: lots}\n", "4:21", "bad_job_file", "found `lots`", "32GB"),
    (START + "resources: {memory: 1..2GB}\n", "4:21", "bad_job_file", "one size", ""),
    (START + "resources: {memory: 1KB}\n", "4:21", "bad_job_file", "bytes", ""),
    (START + "resources: {memory: -1GB}\n", "4:21", "bad_job_file", "size", ""),
    (START + "resources: {cpu: 0}\n", "4:18", "bad_job_file", "0.1 to 256", ""),
    (START + "resources: {cpu: .inf}\n", "4:18", "bad_job_file", "`.inf`", ""),
    (START + "resources: {pids: 1.5}\n", "4:19", "bad_job_file", "whole number", ""),
    (START + "resources: {gpu: H1000}\n", "4:18", "unknown_gpu", "unknown GPU `H1000`", "H100"),
    ("type: task\nname: no\ncommands: [a]\n", "2:7", "bad_job_file", "found `no`", "quotes"),
    ("type: task\nname: My Job\ncommands: [a]\n", "2:7", "bad_job_file", "`My Job`", "a-z"),
    ("type: task\nname:\ncommands: [a]\n", "2:6", "bad_job_file", "found nothing", ""),
    ("type: task\nname: x\ncommands: []\n", "3:11", "bad_job_file", "1 to 32", ""),
    ("type: task\nname: x\ncommands: {a: b}\n", "3:11", "bad_job_file", "found a map", ""),
    ("type: task\nname: x\ncommands: [a: b]\n", "3:12", "bad_job_file", "commands[0]", ""),
    ("type: task\nname: x\ncommands: [true]\n", "3:12", "bad_job_file", "`true`", "quotes"),
    ("type: task\nname: x\ncommands: ['']\n", "3:12", "bad_job_file", "command", ""),
    (START + "runtime: ruby\n", "4:10", "bad_job_file", "`ruby`", "image"),
    (START + "runtime: pyton\n", "4:10", "bad_job_file", "`pyton`", "Did you mean `python`?"),
    (START + "runtime: wasm\n", "4:10", "bad_job_file", "wasm: module.wasm", ""),
    (START + "python: 3.12\n", "4:9", "bad_job_file", "`3.12`", "image"),
    (START + "image: a b\n", "4:8", "bad_job_file", "`a b`", "docker pull"),
    (START + "image: a:1\npython: 3.11\n", "4:8", "bad_job_file", "python and image", "Keep"),
    (START + "wasm: m.wasm\n", "3:11", "bad_job_file", "no shell", ""),
    ("type: task\nname: x\nwasm: m.py\n", "3:7", "bad_job_file", "`m.py`", ""),
    ("type: task\nname: x\nwasm: none.wasm\n", "3:7", "file_missing", "none.wasm", ""),
    ("type: task\nname: x\nwasm: m.wasm 'a\n", "3:7", "bad_job_file", "module", "words"),
    ("type: task\nname: x\nwasm: m.wasm\nnumeric: D2\n", "4:10", "bad_job_file", "D0 for wasm", ""),
    (START + "numeric: D9\n", "4:10", "bad_job_file", "`D9`", ""),
    (START + "chunks: 0\n", "4:9", "bad_job_file", "from 1 to 4096", ""),
    (START + "chunks: 5000\n", "4:9", "bad_job_file", "`5000`", ""),
    (START + "chunks: many\n", "4:9", "bad_job_file", "`many`", ""),
    (START + "chunks: []\n", "4:9", "bad_job_file", "0 entries", ""),
    (START + "chunks: [1]\n", "4:10", "bad_job_file", "chunks[0]", ""),
    (START + "chunks: 2\nmatrix: {A: [1]}\n", "5:9", "bad_job_file", "chunks", "Keep"),
    (START + "matrix: {A: 1}\n", "4:13", "bad_job_file", "matrix.A", ""),
    (START + "matrix: {A: []}\n", "4:13", "bad_job_file", "at least one", ""),
    (START + "matrix: {}\n", "4:9", "over_limit", "found 0", ""),
    (START + f"matrix: {{A: {list(range(65))}, B: {list(range(65))}}}\n", "4:9", "over_limit", "4225", ""),
    (START + "matrix: {A B: [1]}\n", "4:9", "bad_job_file", "no name of a variable", ""),
    (START + "env: {1A: x}\n", "4:11", "bad_job_file", "`1A`", "digit"),
    (START + "env: {SHOAL_OUT: x}\n", "4:18", "bad_job_file", "set by the sandbox", ""),
    (START + "env: {A: }\n", "4:9", "bad_job_file", "found nothing", ""),
    (START + "env: {A: [1]}\n", "4:10", "bad_job_file", "found a list", ""),
    (START + "env: [TOKEN]\n", "4:7", "env_missing", "not set in your environment", "export TOKEN"),
    (START + "env: [A=1, A=2]\n", "4:12", "bad_job_file", "twice", ""),
    (START + "env: {A: " + "x" * 5_000 + "}\n", "4:10", "over_limit", "4096", "file"),
    (START + "audit: .nan\n", "4:8", "bad_job_file", "`.nan`", "10%"),
    (START + "audit: 1.5\n", "4:8", "bad_job_file", "`1.5`", ""),
    (START + "audit: 200%\n", "4:8", "bad_job_file", "`200%`", ""),
    (START + "audit: 0.00000001\n", "4:8", "bad_job_file", "share", ""),
    (START + "max_price: 1e3\n", "4:12", "bad_job_file", "`1e3`", ""),
    (START + "max_price: -1\n", "4:12", "bad_job_file", "`-1`", ""),
    (START + "max_price: 0.0000001\n", "4:12", "bad_job_file", "six decimals", ""),
    (START + "spend_cap: 0\n", "4:12", "bad_job_file", "`0`", ""),
    (START + "spend_cap: 99999999999999999\n", "4:12", "bad_job_file", "credits", ""),
    (START + "timeout: 0\n", "4:10", "bad_job_file", "0.1 s", ""),
    (START + "timeout: 25h\n", "4:10", "bad_job_file", "86400 s", ""),
    (START + "timeout: 1:30\n", "4:10", "bad_job_file", "`1:30`", "1h30m"),
    (START + "timeout: soon\n", "4:10", "bad_job_file", "`soon`", ""),
    (START + "timeout: 1s\nestimate: 2s\n", "5:11", "bad_job_file", "at most the timeout, 1 s", ""),
    (START + "attempts: 17\n", "4:11", "bad_job_file", "1 to 16", ""),
    (START + "fuel: lots\n", "4:7", "bad_job_file", "`lots`", ""),
    (START + "reduce: []\n", "4:9", "bad_job_file", "1 to 32", ""),
    (START + "files: main.py\n", "4:8", "bad_job_file", "a list of files", ""),
    (START + "files: [none.py]\n", "4:9", "file_missing", "no file none.py", ""),
    (START + "files: [/etc/passwd]\n", "4:9", "path_escapes", "outside", "folder"),
    (START + "files: [~/x]\n", "4:9", "path_escapes", "outside", ""),
    (START + "files: [data/../../x]\n", "4:9", "path_escapes", "outside", ""),
    (START + "files: [escaping]\n", "4:9", "path_escapes", "a link to", "Copy"),
    (START + "files: [holes]\n", "4:9", "path_escapes", "a link to a folder", ""),
    (START + "files: [dangling]\n", "4:9", "file_missing", "dangling", ""),
    (START + "files: [looped]\n", "4:9", "file_missing", "looped", ""),
    (START + "files: [pipe]\n", "4:9", "bad_path", "no regular file", ""),
    (START + "files: [main.py:/../x]\n", "4:9", "bad_path", "..", ""),
    (START + "files: ['main.py:/']\n", "4:9", "bad_job_file", "file or folder", ""),
    (START + "files: ['a:b:c']\n", "4:9", "bad_job_file", "`a:b:c`", ""),
    (START + "files: [chunks]\n", "4:9", "bad_path", "reduce", ""),
    (START + "files: [main.py:/x, data/a.txt:/x]\n", "4:21", "bad_job_file", "given twice", ""),
    (START + "files: [main.py:/x, data/a.txt:/x/y]\n", "4:8", "bad_spec", "a file and a folder", ""),
    (START + "files: [{a: b}]\n", "4:9", "bad_job_file", "files[0]", ""),
]


@pytest.mark.parametrize(
    ("text", "where", "code", "detail", "fix"), BAD, ids=[f"{n}-{b[1]}" for n, b in enumerate(BAD)]
)
def test_refusals_say_where_what_and_how(text: str, where: str, code: str, detail: str, fix: str, folder: Path) -> None:
    with pytest.raises(Refused) as caught:
        read(text, folder, {})
    error = caught.value
    assert error.detail.startswith(f"job.yml:{where}"), error.detail
    assert error.code == code, error.detail
    assert detail in error.detail
    assert fix in error.fix
    assert error.fix
    assert len(error.detail) < 600


def test_too_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.job_inputs.FILES_MAX", 1)
    with pytest.raises(Refused, match="more than 1 files") as caught:
        read(START + "files: [data]\n", folder, {})
    assert caught.value.code == "over_limit"


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_tree_or_a_refusal(text: str) -> None:
    try:
        tree = yaml_nodes.parse(text, "job.yml")
    except Refused as error:
        assert error.code in ("bad_yaml", "over_limit")
    else:
        assert tree.place.line >= 1


words = st.sampled_from(
    ["task", "x", "1", "-1", ".nan", "1e9", "yes", "~", "''", "[a]", "{A: 1}", "[{A: [1]}]", "0.5", "8GB"]
)


@given(
    key=st.sampled_from(["name", "commands", "chunks", "matrix", "env", "files", "resources", "timeout", "audit"]),
    value=words,
)
def test_any_value_of_any_key_is_read_or_refused_at_its_line(key: str, value: str) -> None:
    lines = {"type": "task", "name": "x", "commands": "[a]", key: value}
    text = "".join(f"{name}: {content}\n" for name, content in lines.items())
    try:
        spec = read(text, Path("/nonexistent"), {}).spec
    except Refused as error:
        assert error.numbers["line"] == list(lines).index(key) + 1
    else:
        assert spec.runtime == "python"
