"""What a node shows of itself: quotes one at a time and in time, and one line of the doctor."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest
import trio

from node import attester, trust_roots
from node.attester import AUTO, OFF, Attester, check_hardware, door
from node.card_reports import from_driver, from_sdk
from node.config import load
from node.tsm import FOLDER, Door
from protocol.completions import Attested
from protocol.effects import Attest
from protocol.errors import Refused, Unavailable
from protocol.quote_messages import PART_BYTES_MAX
from tests.node.tsm_folder import TsmFolder
from tests.verifier.attestation.foundry import TDX_IMAGE, Foundry
from verifier.attestation.chains import fingerprint
from verifier.attestation.makers import BUILT_IN

FOUNDRY = Foundry()
WORK = Attest((b"e" * 32, 0, 1), b"\4" * 32, ("tdx",))


async def test_questions_at_the_same_time_are_answered_in_turn(tmp_path: Path) -> None:
    found: list[Attested] = []
    with TsmFolder(tmp_path / "report", FOUNDRY.tdx) as hardware:
        witness = Attester(Door(tmp_path / "report"))

        async def ask() -> None:
            found.append(await witness.attest(WORK))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
    assert len(hardware.written) == 3
    assert all(one.evidence is not None and one.evidence.cpu.kind == "tdx" for one in found)


@pytest.mark.parametrize(
    ("kinds", "said"), [(("sev-snp",), "takes no quotes of tdx"), (("tdx", "nvidia"), "driver|sign nothing")]
)
async def test_what_the_job_does_not_take_or_the_machine_has_not(
    tmp_path: Path, kinds: tuple[str, ...], said: str
) -> None:
    if "nvidia" in kinds and shutil.which("nvidia-smi"):
        pytest.skip("this machine has a card")
    with TsmFolder(tmp_path / "report", FOUNDRY.tdx):
        done = await Attester(Door(tmp_path / "report")).attest(Attest(WORK.lease, WORK.bound, kinds))  # type: ignore[arg-type]
    assert done.evidence is None
    assert any(part in done.why for part in said.split("|")), done.why


@pytest.mark.parametrize("where", [None, Door(Path("/nowhere/at/all"))])
async def test_a_machine_without_hardware_says_so(where: Door | None) -> None:
    done = await Attester(where).attest(WORK)
    assert (done.evidence, done.why) == (None, "this machine has no trusted hardware")


@pytest.mark.parametrize("report", [b"", bytes(PART_BYTES_MAX + 1)])
async def test_what_no_message_may_hold_is_not_sent(tmp_path: Path, report: bytes) -> None:
    with TsmFolder(tmp_path / "report", lambda asked: report):
        done = await Attester(Door(tmp_path / "report")).attest(WORK)
    assert done.evidence is None and done.why


async def test_hardware_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(asked: bytes) -> bytes:
        go_on.wait()
        return FOUNDRY.tdx(asked)

    with TsmFolder(tmp_path / "report", slow):
        monkey = pytest.MonkeyPatch()
        monkey.setattr(attester, "PATIENCE_S", 0.05)
        done = await Attester(Door(tmp_path / "report")).attest(WORK)
        monkey.undo()
        go_on.set()
    assert done.evidence is None and "took longer" in done.why


def test_where_hardware_is_looked_for(tmp_path: Path) -> None:
    assert door(OFF, tmp_path) is None
    kernel, named = door(AUTO, tmp_path), door("/opt/report", tmp_path)
    assert kernel is not None and kernel.folder == FOLDER and kernel.certificates == tmp_path / "attestation"
    assert named is not None and named.folder == Path("/opt/report")
    with pytest.raises(Refused):
        load({"attestation": "sometimes", "data": str(tmp_path)}, {})


def test_the_doctor_shows_the_measured_image(tmp_path: Path) -> None:
    assert check_hardware(OFF, tmp_path)["status"] == "ok"
    with TsmFolder(tmp_path / "report", FOUNDRY.tdx):
        found = check_hardware(str(tmp_path / "report"), tmp_path)
    assert (found["status"], found["detail"]) == ("ok", f"tdx signs here; the image is {TDX_IMAGE.hex()}")
    missing = check_hardware(str(tmp_path / "none"), tmp_path)
    assert missing["status"] == "warn" and "auto" in missing["fix"]
    with TsmFolder(tmp_path / "broken", lambda asked: b"rubbish"):
        assert check_hardware(str(tmp_path / "broken"), tmp_path)["status"] == "warn"


def test_cards_are_not_there_or_not_in_confidential_mode() -> None:
    with pytest.raises(Unavailable) as caught:
        from_driver(bytes(32))
    assert caught.value.code == "no_quote"


def test_an_interpreter_without_the_sdk_is_told_by_its_last_word() -> None:
    with pytest.raises(Unavailable, match="nv_attestation_sdk"):
        from_sdk(Path(sys.executable), bytes(32))
    with pytest.raises(Unavailable):
        from_sdk(Path("/nowhere/python"), bytes(32))


def test_an_operators_own_roots_replace_the_built_in_ones(tmp_path: Path) -> None:
    assert trust_roots.load(None) is BUILT_IN
    (tmp_path / "tdx").mkdir()
    (tmp_path / "tdx" / "root.pem").write_bytes(FOUNDRY.tdx_chain.pem)
    (tmp_path / "revoked").write_text(fingerprint(FOUNDRY.gpu_chain.leaf).hex() + "\n")
    found = trust_roots.load(tmp_path)
    assert dict(found.roots) == {"tdx": FOUNDRY.makers.roots["tdx"]}  # The leaf in the same file is no root.
    assert found.revoked == {fingerprint(FOUNDRY.gpu_chain.leaf)}


@pytest.mark.parametrize("name", ["tdx/root.pem", "revoked"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "tdx").mkdir()
    (tmp_path / name).write_text("rubbish")
    with pytest.raises(Refused) as caught:
        trust_roots.load(tmp_path)
    assert caught.value.code == "bad_config"
    with pytest.raises(Refused):
        trust_roots.load(tmp_path / "none")
