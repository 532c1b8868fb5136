"""shoal.gpu_grammar: what people write for a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.jobspec import GpuNeed
from protocol.yaml_nodes import Place, Scalar
from shoal.gpu_grammar import read_gpu

GB = 10**9
GIB = 1 << 30

GOOD: dict[str, GpuNeed] = {
    "0": GpuNeed(),
    "1": GpuNeed(count=1),
    "2..": GpuNeed(count=2),
    "nvidia": GpuNeed("nvidia", count=1),
    "AMD:2": GpuNeed("amd", count=2),
    "RTX4090": GpuNeed("nvidia", ("RTX4090",), count=1),
    "rtx 4090": GpuNeed("nvidia", ("RTX4090",), count=1),
    "4090:2": GpuNeed("nvidia", ("RTX4090",), count=2),
    "A10,A100": GpuNeed("nvidia", ("A10", "A100"), count=1),
    "A100,MI300X": GpuNeed("", ("A100", "MI300X"), count=1),
    "A100:80GB": GpuNeed("nvidia", ("A100",), 80 * GB, 80 * GIB, 1),
    "nvidia:H100:80GB:8": GpuNeed("nvidia", ("H100",), 80 * GB, 80 * GIB, 8),
    "24GB..": GpuNeed("", (), 24 * GB, 0, 1),
    "..16GB": GpuNeed("", (), 0, 16 * GIB, 1),
    "24GB..80GB:1..8": GpuNeed("", (), 24 * GB, 80 * GIB, 1),
    "nvidia:24GB..:1": GpuNeed("nvidia", (), 24 * GB, 0, 1),
    "24GB..:4:nvidia": GpuNeed("nvidia", (), 24 * GB, 0, 4),
    "1.5TB": GpuNeed("", (), 1_500 * GB, 1_536 * GIB, 1),
}

BAD: dict[str, tuple[str, str]] = {
    "H1000": ("unknown_gpu", "Did you mean `H100`?"),
    "RTX4091": ("unknown_gpu", "Did you mean `RTX4090`?"),
    "potato": ("unknown_gpu", "ask for memory"),
    "nvidia:MI300X": ("unknown_gpu", "amd:MI300X"),
    "A100:": ("bad_job_file", "empty"),
    "nvidia:amd": ("unknown_gpu", ""),
    "24GB:80GB": ("bad_job_file", "second of its kind"),
    "1:2": ("bad_job_file", "second of its kind"),
    "A100:H100": ("bad_job_file", "second of its kind"),
    "80GB..24GB": ("bad_job_file", "smaller size first"),
    "8..1": ("bad_job_file", "smaller number first"),
    "65": ("bad_job_file", "smaller number first"),
    "..": ("unknown_gpu", ""),
    "-1": ("unknown_gpu", ""),
    "": ("bad_job_file", ""),
}


def node(text: str) -> Scalar:
    return Scalar(Place("job.yml", 3, 7), text, is_plain=True)


@pytest.mark.parametrize("text", GOOD)
def test_grammar(text: str) -> None:
    assert read_gpu(node(text), "resources.gpu") == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_refusals(text: str) -> None:
    code, fix = BAD[text]
    with pytest.raises(Refused, match=r"^job\.yml:3:7: resources\.gpu: ") as caught:
        read_gpu(node(text), "resources.gpu")
    assert caught.value.code == code
    assert fix in caught.value.fix
    assert caught.value.fix


@given(text=st.text(max_size=20) | st.text(alphabet="A10GBT.:,nvidia4 ", max_size=16))
def test_any_text_is_a_need_or_a_refusal(text: str) -> None:
    try:
        need = read_gpu(node(text), "gpu")
    except Refused as error:
        assert error.fix
    else:
        assert 0 <= need.count <= 64
        assert need.memory_bytes_max == 0 or need.memory_bytes_min <= need.memory_bytes_max
