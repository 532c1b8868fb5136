"""The GPUs of this host: facts from the vendor's library, from the kernel, or from a recording. Never guessed.

"There is a GPU but no library to talk to it" is told apart from "there is no GPU": it is the commonest host problem.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec
import pynvml

from protocol.errors import Refused
from protocol.messages import Gpu
from protocol.units import MIB

VENDORS: Final = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
"""PCI vendor ids (pci.ids) of cards that can compute."""

TOOLS: Final = {"nvidia": ("nvidia-smi",), "amd": ("amd-smi", "rocm-smi"), "intel": ("xpu-smi",)}
"""Programs that come with a vendor's driver."""

FIX: Final = {
    "nvidia": "Install NVIDIA's driver for this card (Debian: nvidia-driver) and start the node again.",
    "amd": "Load the amdgpu kernel driver; its memory shows up below /sys/class/drm then.",
    "intel": "Install Intel's level-zero driver and xpu-smi.",
}


class GpuFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One card. Temperature in °C, power in watts, utilisation in percent; 0 = the source does not say."""

    vendor: str
    name: str
    uuid: str
    vram_bytes: int
    vram_used_bytes: int = 0
    driver: str = ""
    api_version: str = ""
    """CUDA's for NVIDIA: the newest that the driver supports."""
    pcie_gen: int = 0
    pcie_width: int = 0
    power_limit_w: int = 0
    power_w: int = 0
    temperature_c: int = 0
    utilisation: int = 0
    is_mig: bool = False
    source: str = ""


class GpuReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All cards of a host, or why there are none."""

    status: Literal["found", "none", "driver_missing"]
    gpus: tuple[GpuFact, ...] = ()
    detail: str = ""
    fix: str = ""


class GpuSource(Protocol):
    """Where facts come from."""

    def read(self) -> GpuReport:
        """The cards as they are now."""
        ...


class NvmlSource:
    """NVIDIA's management library. One call of `read` costs about a millisecond a card."""

    def read(self) -> GpuReport:
        """Cards, or `none` when the library is not here or finds nothing; `detail` says which."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return GpuReport("none", detail=f"NVML: {error}")
        try:
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
            api = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
            count = int(pynvml.nvmlDeviceGetCount())
            cards = tuple(_nvml_fact(pynvml.nvmlDeviceGetHandleByIndex(index), driver, api) for index in range(count))
        except pynvml.NVMLError as error:
            return GpuReport("driver_missing", detail=f"NVML does not answer: {error}", fix=FIX["nvidia"])
        finally:
            pynvml.nvmlShutdown()
        return GpuReport("found", cards) if cards else GpuReport("none", detail="NVML finds no card")


class SysfsSource:
    """What the kernel says without any library: complete for AMD's amdgpu, otherwise only that a card is there."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def read(self) -> GpuReport:
        """`found` for cards whose memory the kernel shows, `driver_missing` for cards that it only sees."""
        cards = [card for path in sorted((self._root / "sys/class/drm").glob("card?")) if (card := _sysfs_fact(path))]
        if usable := tuple(card for card in cards if card.vram_bytes):
            return GpuReport("found", usable)
        vendors = sorted({card.vendor for card in cards} | set(self._device_nodes()))
        if not vendors:
            return GpuReport("none", detail="no device nodes and no display adapters of a GPU vendor")
        vendor = vendors[0]
        tools = [name for name in TOOLS[vendor] if shutil.which(name)]
        seen = f"a GPU of {' and '.join(vendors)} is there, but its driver library is missing"
        return GpuReport(
            "driver_missing", detail=f"{seen} (vendor tools found: {', '.join(tools) or 'none'})", fix=FIX[vendor]
        )

    def _device_nodes(self) -> list[str]:
        found = []
        if any((self._root / "dev").glob("nvidia[0-9]*")) or (self._root / "proc/driver/nvidia/version").exists():
            found.append("nvidia")
        if (self._root / "dev/kfd").exists():
            found.append("amd")
        return found


class RecordedSource:
    """A report from a file, for tests, demonstrations and pages: `source` of every card says so."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> GpuReport:
        """The recorded report; Refused when the file is not one."""
        try:
            report = msgspec.json.decode(self._path.read_bytes(), type=GpuReport)
        except (OSError, msgspec.DecodeError) as error:
            raise Refused(f"{self._path} is no GPU recording: {error}", code="bad_recording") from error
        cards = tuple(msgspec.structs.replace(card, source=f"recorded:{self._path.stem}") for card in report.gpus)
        return msgspec.structs.replace(report, gpus=cards)


class HostSource:
    """This host: NVML first, then the kernel, whose word counts for what NVML cannot see."""

    def __init__(self, nvml: GpuSource | None = None, sysfs: GpuSource | None = None) -> None:
        self._nvml = nvml or NvmlSource()
        self._sysfs = sysfs or SysfsSource()

    def read(self) -> GpuReport:
        """Every card that can be used; otherwise the most telling reason."""
        first, second = self._nvml.read(), self._sysfs.read()
        if first.status == "found":
            others = tuple(card for card in second.gpus if card.vendor != "nvidia")
            return GpuReport("found", first.gpus + others)
        if second.status == "found" or first.status == "none":
            return (
                second
                if second.status != "none"
                else msgspec.structs.replace(first, detail=first.detail or second.detail)
            )
        return first


def offered(report: GpuReport) -> tuple[Gpu, ...]:
    """The cards as an offer names them; measured figures are 0 until a benchmark ran on the card."""
    return tuple(Gpu(card.vendor, card.name, card.vram_bytes, gemm_gflops=0, bandwidth_mbps=0) for card in report.gpus)


def _nvml_fact(card: object, driver: str, api: str) -> GpuFact:
    memory = pynvml.nvmlDeviceGetMemoryInfo(card)

    def ask(function: Callable[..., int], *arguments: object) -> int:
        """Many figures are missing on consumer cards and inside virtual machines: 0 then."""
        try:
            return int(function(card, *arguments))
        except pynvml.NVMLError:
            return 0

    try:
        utilisation = int(pynvml.nvmlDeviceGetUtilizationRates(card).gpu)
    except pynvml.NVMLError:
        utilisation = 0
    try:
        is_mig = bool(pynvml.nvmlDeviceGetMigMode(card)[0])
    except pynvml.NVMLError:
        is_mig = False
    return GpuFact(
        vendor="nvidia",
        name=str(pynvml.nvmlDeviceGetName(card)),
        uuid=str(pynvml.nvmlDeviceGetUUID(card)),
        vram_bytes=int(memory.total),
        vram_used_bytes=int(memory.used),
        driver=driver,
        api_version=api,
        pcie_gen=ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
        pcie_width=ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth),
        power_limit_w=ask(pynvml.nvmlDeviceGetPowerManagementLimit) // 1000,
        power_w=ask(pynvml.nvmlDeviceGetPowerUsage) // 1000,
        temperature_c=ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        utilisation=utilisation,
        is_mig=is_mig,
        source="nvml",
    )


def _sysfs_fact(card: Path) -> GpuFact | None:
    device = card / "device"
    vendor = VENDORS.get(_text(device / "vendor"))
    if not vendor:
        return None
    hot = next(iter(sorted(device.glob("hwmon/hwmon*/temp1_input"))), device / "none")
    cap = next(iter(sorted(device.glob("hwmon/hwmon*/power1_cap"))), device / "none")
    return GpuFact(
        vendor=vendor,
        name=_text(device / "product_name") or f"{vendor} {_text(device / 'device')}",
        uuid=_text(device / "unique_id") or card.name,
        vram_bytes=_number(device / "mem_info_vram_total"),
        vram_used_bytes=_number(device / "mem_info_vram_used"),
        driver="kernel",
        pcie_width=_number(device / "current_link_width"),
        power_limit_w=_number(cap) // 1_000_000,
        temperature_c=_number(hot) // 1000,
        utilisation=_number(device / "gpu_busy_percent"),
        source="sysfs",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0


def memory_text(card: GpuFact) -> str:
    """`80 GB`, as people name cards."""
    return f"{round(card.vram_bytes / MIB / 1024)} GB"
