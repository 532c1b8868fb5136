"""GPU facts from recordings, from a kernel's files, and from this host, whatever it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.gpu import GpuFact, GpuReport, HostSource, NvmlSource, RecordedSource, SysfsSource, memory_text, offered
from protocol.errors import Refused

FIXTURES = Path(__file__).parent / "fixtures"


class Said:
    """A source with a known answer."""

    def __init__(self, report: GpuReport) -> None:
        self.report = report

    def read(self) -> GpuReport:
        return self.report


def adapter(root: Path, vendor: str, **files: str) -> Path:
    device = root / "sys/class/drm/card0/device"
    device.mkdir(parents=True)
    for name, content in {"vendor": vendor, "device": "0x744c", **files}.items():
        (device / name).parent.mkdir(parents=True, exist_ok=True)
        (device / name).write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("name", "count", "text"), [("8xh100", 8, "80 GB"), ("1xrtx4090", 1, "24 GB"), ("none", 0, "")]
)
def test_recordings(name: str, count: int, text: str) -> None:
    report = RecordedSource(FIXTURES / f"gpus_{name}.json").read()
    assert len(report.gpus) == count
    assert {memory_text(card) for card in report.gpus} == ({text} if text else set())
    assert {card.source for card in report.gpus} <= {f"recorded:gpus_{name}"}
    assert len({card.uuid for card in report.gpus}) == count
    assert [card.memory_bytes for card in offered(report)] == [card.vram_bytes for card in report.gpus]


@pytest.mark.parametrize("content", ["", "{}", '{"status": "found", "gpus": [{}]}', '{"status": "lost"}'])
def test_bad_recordings_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(Refused) as caught:
        RecordedSource(path).read()
    assert caught.value.code == "bad_recording"


def test_no_gpu_and_no_library_are_told_apart(tmp_path: Path) -> None:
    assert SysfsSource(tmp_path).read().status == "none"
    seen = SysfsSource(adapter(tmp_path, "0x10de")).read()
    assert (seen.status, "nvidia" in seen.detail, bool(seen.fix)) == ("driver_missing", True, True)


def test_device_nodes_alone_show_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert SysfsSource(tmp_path).read().status == "driver_missing"


def test_amd_cards_need_no_library(tmp_path: Path) -> None:
    files = {"mem_info_vram_total": "25753026560", "product_name": "Radeon RX 7900 XTX", "gpu_busy_percent": "7"}
    report = SysfsSource(adapter(tmp_path, "0x1002", **files, **{"hwmon/hwmon3/temp1_input": "51000"})).read()
    card = report.gpus[0]
    assert (report.status, card.vendor, card.vram_bytes) == ("found", "amd", 25753026560)
    assert (card.temperature_c, card.utilisation, card.name) == (51, 7, "Radeon RX 7900 XTX")


def test_display_adapters_of_others_are_no_gpus(tmp_path: Path) -> None:
    assert SysfsSource(adapter(tmp_path, "0x1234")).read().status == "none"


@pytest.mark.parametrize(
    ("nvml", "sysfs", "expected"),
    [("found", "none", "found"), ("none", "none", "none"), ("none", "driver_missing", "driver_missing"),
     ("driver_missing", "none", "driver_missing"), ("driver_missing", "found", "found"), ("found", "found", "found")],
)  # fmt: skip
def test_the_most_telling_answer_wins(nvml: str, sysfs: str, expected: str) -> None:
    card = GpuFact("amd", "x", "1", 1)

    def said(status: str) -> Said:
        return Said(GpuReport(status, (card,) if status == "found" else ()))  # type: ignore[arg-type]

    report = HostSource(said(nvml), said(sysfs)).read()
    assert report.status == expected
    assert len(report.gpus) == (nvml, sysfs).count("found")


def test_this_host_answers() -> None:
    for source in (NvmlSource(), SysfsSource(), HostSource()):
        report = source.read()
        assert (report.status == "found") == bool(report.gpus)
        assert all(card.vram_bytes for card in report.gpus)
