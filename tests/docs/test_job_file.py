"""docs/job-file.md: every example is read by the program, every key and default is in the tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from protocol.errors import Refused
from protocol.jobspec import GpuNeed
from protocol.yaml_nodes import Place, Scalar
from shoal.gpu_grammar import read_gpu
from shoal.jobfile import KEYS, RESOURCE_KEYS, read

TEXT: Final = (Path(__file__).parents[2] / "docs" / "job-file.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ERROR: Final = next(iter(re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)))
HEAD: Final = "type: task\nname: example\n"
START: Final = HEAD + "commands: [x]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/a.txt", "models/small.bin", "settings/b.cfg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("main.py", "train.py", "best.py", "run.sh", "primes.wasm"):
        (tmp_path / name).write_text("x")
    return tmp_path


def complete(example: str) -> str:
    return example if example.startswith("type:") else HEAD + example


@pytest.mark.parametrize("example", EXAMPLES[:-1], ids=range(len(EXAMPLES) - 1))
def test_every_example_is_a_job(example: str, folder: Path) -> None:
    assert read(complete(example), folder, {"HOME": "/home"}).spec.chunks


def test_the_error_is_the_one_shown(folder: Path) -> None:
    with pytest.raises(Refused) as caught:
        read(EXAMPLES[-1], folder, {})
    assert f"error: {caught.value.detail} [{caught.value.code}]\nfix: {caught.value.fix}\n" == ERROR


def test_what_the_examples_say(folder: Path) -> None:
    specs = [read(complete(example), folder, {"HOME": "/home"}).spec for example in EXAMPLES[:-1]]
    assert [file.path for spec in specs for file in spec.files if "run.sh" in spec.commands[0]] == [
        "data/a.txt",
        "etc/b.cfg",
        "model.bin",
        "run.sh",
    ]
    assert 6 in [len(spec.chunks) for spec in specs]
    assert ("VERBOSE", "yes") in [pair for spec in specs for pair in spec.env]


def rows(title: str) -> list[list[str]]:
    table = TEXT[TEXT.index(f"| {title} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_tables_have_every_key() -> None:
    named = [re.findall(r"`(\w+)`", row[0]) for row in rows("key | what | unless said")]
    assert sorted(key for keys in named for key in keys) == sorted(KEYS)
    below = TEXT[TEXT.index("### Resources") :]
    assert sorted(re.findall(r"^\| `(\w+)` \|", below.split("`KB`")[0], re.MULTILINE)) == sorted(RESOURCE_KEYS)


def test_the_defaults_are_true(folder: Path) -> None:
    default = read(START, folder, {}).spec
    for row in rows("key | what | unless said"):
        key, value = row[0].strip("`"), re.fullmatch(r"`([^`]+)`.*", row[2])
        if key in KEYS and value and key != "numeric":
            assert read(f"{START}{key}: {value[1]}\n", folder, {}).spec == default, key
    for key, _, value_cell in resource_rows():
        if value_cell != "none":
            assert read(f"{START}resources: {{{key}: {value_cell}}}\n", folder, {}).spec == default, key


def resource_rows() -> list[list[str]]:
    lines = TEXT[TEXT.index("### Resources") :].split("\n\n")[2].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_every_gpu_of_the_table_is_read() -> None:
    texts = [row[0].strip("`") for row in rows("`gpu:` | what")]
    assert len(texts) == 7
    needs = [read_gpu(Scalar(Place("job.yml", 1, 1), text, is_plain=True), "gpu") for text in texts]
    assert needs[3] == GpuNeed("nvidia", ("A100", "H100"), count=2)
    assert all(need.count >= 1 for need in needs)
