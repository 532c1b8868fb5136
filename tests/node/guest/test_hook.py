"""Real scripts, killed after a cut and resumed: the same bytes; and snapshots that cannot be restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from node.guest.hook import packing
from node.guest.hook.board import Board
from tests.node.guest.hooked import FIXED, HOOK, Hooked

TORCH: Final = Path(__file__).parents[3] / ".venv-torch" / "bin" / "python"

PLAIN: Final = """
import os, random, time
from collections import Counter, defaultdict, deque
from rounds import Walker
random.seed(4)
log = open(os.path.join(os.environ["SHOAL_OUT"], "log"), "w")
seen, last, groups = Counter(), deque(maxlen=5), defaultdict(list)
one = other = []
walker = Walker(one)
n = 0
print("begun", flush=True)
while n < 40:
    for i, (a, b) in enumerate(zip(range(5), "abcde")):
        seen[b] += random.randrange(5)
        last.append((n, i)); groups[a].append(n)
        time.sleep(0.002)
    walker.walk(n)
    while n == 35 and os.path.exists("gate"):
        time.sleep(0.002)
    log.write(f"{n} {random.random()} {sorted(seen.items())}\\n")
    n += 1
assert one is other is walker.trace
log.write(repr((seen, last, dict(groups), other, walker.steps, 2 ** 80, walker.draw())))
log.close()
"""

ROUNDS: Final = """
import random
class Walker:
    steps = 0
    def __init__(self, trace):
        self.trace, self.own = trace, random.Random(3)
        count = 0
        def draw():
            nonlocal count
            count += 1
            return count, self.own.random()
        self.draw = draw
    def __repr__(self): return "walker"
    def walk(self, n):
        order = list(range(6))
        random.shuffle(order)
        for item in order:
            Walker.steps += 1
            self.trace.append((item, self.draw(), Walker.steps))
"""

TRAINER: Final = """
import os, time, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(3)
class Trainer:
    def __init__(self):
        self.model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(0.3), nn.Linear(12, 1))
        self.best, self.losses = self.model, []
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 20)
    def fit(self, loader):
        for epoch in range(6):
            for x, y in loader:
                loss = ((self.model(x) - y) ** 2).mean()
                self.optimizer.zero_grad(); loss.backward(); self.optimizer.step(); self.schedule.step()
                self.losses.append(loss.item())
                while epoch == 4 and os.path.exists("gate"):
                    time.sleep(0.002)
trainer = Trainer()
x = torch.randn(120, 6)
trainer.fit(DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True))
assert trainer.best is trainer.model
torch.save([trainer.model.state_dict(), trainer.optimizer.state_dict(), trainer.losses, torch.rand(3)],
           os.path.join(os.environ["SHOAL_OUT"], "final.pt"))
"""


CLIPPED: Final = """
import os, time, torch
torch.manual_seed(3)
board = os.environ.get("SHOAL_SNAPSHOT_DIR", "") + "/board"
model = torch.nn.Linear(256, 512)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
x = torch.randn(16, 256)
for step in range(40):
    model.weight.data.clamp_(-0.05, 0.05)
    loss = model(x).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    if step == 3:
        with open(board, "r+b") as file:
            file.seek(8)
            file.write(bytes([1]))
while os.path.exists("gate"):
    time.sleep(0.002)
torch.save([model.state_dict(), optimizer.state_dict(), loss], os.path.join(os.environ["SHOAL_OUT"], "final.pt"))
"""
"""It asks for its own snapshot, so that it is cut at the head of its loop however late the test is."""


def script(folder: Path, text: str = PLAIN) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rounds.py").write_text(ROUNDS)
    (folder / "main.py").write_text(text)
    return folder / "main.py"


def untouched(path: Path, folder: Path, python: str = sys.executable) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    environment = {**os.environ, "SHOAL_OUT": str(folder), **FIXED}
    subprocess.run([python, path], env=environment, check=True, stdout=subprocess.DEVNULL)
    return {item.name: item.read_bytes() for item in folder.iterdir()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What PLAIN leaves when nobody touches it."""
    folder = tmp_path_factory.mktemp("plain")
    return untouched(script(folder / "in"), folder / "out")


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of PLAIN."""
    folder = tmp_path_factory.mktemp("cut")
    job = Hooked(script(folder / "in"), folder / "job")
    job.start(is_shut=True)
    return job.cut(30)


@pytest.mark.parametrize("step", [2, 150])
def test_a_killed_script_goes_on_to_the_same_bytes(tmp_path: Path, step: int, plain: dict[str, bytes]) -> None:
    path = script(tmp_path / "in")
    first = Hooked(path, tmp_path / "first")
    first.start(is_shut=True)
    snapshot = first.cut(step)
    assert first.board.get("is_complete") == 1, first.board.text
    second = Hooked(path, tmp_path / "second", snapshot=snapshot)
    second.start()
    assert second.end() == plain
    assert second.board.get("restored_step") >= step
    assert second.shown() == "", "the prefix was shown before"


@pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch")
def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    path = script(tmp_path / "in", TRAINER)
    first = Hooked(path, tmp_path / "first", str(TORCH))
    first.start(is_shut=True)
    snapshot = first.cut(20)
    second = Hooked(path, tmp_path / "second", str(TORCH), snapshot)
    second.start()
    assert second.end() == untouched(path, tmp_path / "plain", str(TORCH))
    assert (second.board.state, second.board.get("restored_step") >= 20) == ("ended", True)


def test_a_parked_script_waits_and_then_restores(tmp_path: Path, plain: dict[str, bytes], cut: Path) -> None:
    second = Hooked(script(tmp_path / "in"), tmp_path / "second", snapshot=cut)
    second.board.set("go", 0)
    second.board.set("is_parked", 1)
    second.start()
    second.wait_for("state", 2)
    assert second.board.state == "parked"
    second.board.set("go", 1)
    assert second.end() == plain
    assert second.board.get("restored_step") >= 30


def test_a_parked_script_may_run_from_the_beginning(tmp_path: Path, plain: dict[str, bytes]) -> None:
    path = script(tmp_path / "in")
    parked = Hooked(path, tmp_path / "parked")
    parked.board.set("is_parked", 1)
    parked.start()
    parked.wait_for("state", 2)
    assert parked.shown() == ""
    parked.board.set("go", 2)
    assert parked.end() == plain
    assert parked.shown() == "begun\n"


def test_it_stands_still_while_it_is_held(tmp_path: Path, plain: dict[str, bytes]) -> None:
    path = script(tmp_path / "in")
    job = Hooked(path, tmp_path / "job")
    job.start(is_shut=True)
    job.wait_for("steps", 10)
    job.board.set("hold", 1)
    job.board.set("wanted", 1)
    job.wait_for("held", 1)
    assert job.board.get("answered") == 1 and (job.snap / "1" / "state.msgpack").is_file()
    job.board.set("hold", 0)
    job.open_gate()
    assert job.end() == plain


def test_a_cut_that_waits_is_taken_where_the_restored_job_stands(tmp_path: Path, cut: Path) -> None:
    """As a rehearsal does: parked, asked, restored, compared."""
    job = Hooked(script(tmp_path / "in"), tmp_path / "job", snapshot=cut)
    for field, value in (("go", 0), ("is_parked", 1), ("hold", 1), ("wanted", 1)):
        job.board.set(field, value)
    job.start()
    job.wait_for("state", 2)
    job.board.set("go", 1)
    job.wait_for("answered", 1)
    assert job.board.get("steps") == job.board.get("restored_step") >= 30
    before, after = (packing.unpack((folder / "state.msgpack").read_bytes()) for folder in (cut, job.snap / "1"))
    assert isinstance(before, dict) and isinstance(after, dict)
    for state in (before, after):  # Without a sandbox each has folders of its own.
        del state["roots"]
    assert before == after
    assert (cut / "tensors.safetensors").read_bytes() == (job.snap / "1" / "tensors.safetensors").read_bytes()
    job.kill()


@pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch")
def test_weights_that_are_clipped_by_hand_right_after_the_head_are_copied_in_the_cut(tmp_path: Path) -> None:
    path = script(tmp_path / "in", CLIPPED)
    first = Hooked(path, tmp_path / "first", str(TORCH))
    first.start(is_shut=True)
    first.wait_for("answered", 1)
    first.open_gate()
    whole = first.end()
    assert first.board.get("stall_total_us") > first.board.get("stall_us"), "one cut was dropped"
    second = Hooked(path, tmp_path / "second", str(TORCH), first.snap / "1")
    second.start()
    assert second.end() == whole
    assert second.board.get("restored_step") >= 1


def test_one_order_has_one_answer(tmp_path: Path) -> None:
    job = Hooked(script(tmp_path / "in"), tmp_path / "job")
    job.board.set("wanted", 1)
    job.start()
    job.end()
    assert job.board.get("answered") == 1
    assert job.board.get("number") == 1


def test_no_more_than_two_snapshots_wait(tmp_path: Path) -> None:
    job = Hooked(script(tmp_path / "in"), tmp_path / "job")
    job.start(is_shut=True)
    for number in (1, 2):
        job.board.set("wanted", number)
        job.wait_for("answered", number)
    job.board.set("wanted", 3)
    steps = job.board.get("steps")
    job.wait_for("steps", steps + 60)
    assert job.board.get("answered") == 2
    (job.snap / "1" / "tensors.safetensors").unlink()
    (job.snap / "1").rename(tmp_path / "taken")
    job.wait_for("answered", 3)
    assert job.board.get("answered") == 3
    job.kill()


@pytest.mark.parametrize("damage", ["cut", "types", "huge", "absent", "empty state", "references"])
def test_a_damaged_snapshot_is_told_and_the_script_runs(
    tmp_path: Path, damage: str, plain: dict[str, bytes], cut: Path
) -> None:
    path = script(tmp_path / "in")
    snapshot = Path(shutil.copytree(cut, tmp_path / "damaged"))
    state = snapshot / "state.msgpack"
    data = state.read_bytes()
    changed = {
        "cut": data[: len(data) // 2], "types": b"\x93\x01\x02\x03", "huge": b"\xdf\xff\xff\xff\xff",
        "empty state": b"\x80", "references": data.replace(b"\xd6\x01\x00\x00\x00", b"\xd6\x01\xff\xff\xff"),
    }  # fmt: skip
    if damage == "absent":
        (snapshot / "tensors.safetensors").unlink()
    else:
        state.write_bytes(changed[damage])
    second = Hooked(path, tmp_path / "second", snapshot=snapshot)
    second.start()
    assert second.end() == plain
    assert second.board.state == "disabled" and "cannot be restored" in second.board.text
    assert second.shown() == "begun\n"


def test_a_snapshot_of_another_script_starts_it_again(tmp_path: Path, cut: Path) -> None:
    other = script(
        tmp_path / "other",
        "import os\nprint('a last word')\nopen(os.environ['SHOAL_OUT'] + '/x', 'w').write('whole')\n",
    )
    second = Hooked(other, tmp_path / "second", snapshot=cut)
    second.start()
    assert second.end() == {"x": b"whole"}
    assert second.board.state == "disabled" and "before it came to the loop" in second.board.text
    assert "it printed: a last word" in second.board.text


def test_another_sitecustomize_is_loaded_and_names_are_not_hidden(tmp_path: Path) -> None:
    path = script(tmp_path / "in", "import board, shoal_job, sys\nprint(board.mine, sys.other)\n")
    (tmp_path / "in" / "board.py").write_text("mine = 1\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.other = 2\n")
    board = Board.create(str(tmp_path / "board"))
    environment = {
        **os.environ, "SHOAL_SNAPSHOT_DIR": str(tmp_path), "PYTHONPATH": f"{HOOK}{os.pathsep}{tmp_path / 'site'}",
    }  # fmt: skip
    done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1 2\n", "")
    assert board.state == "ended"
