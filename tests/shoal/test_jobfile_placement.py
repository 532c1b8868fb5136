"""`placement` of a job file: read exactly, or refused at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET

from protocol.errors import Refused
from protocol.jobspec import Placement
from shoal.jobfile import read

START = "type: task\nname: x\ncommands: [a]\n"


def test_a_placement_is_read(tmp_path: Path) -> None:
    text = START + "placement: {latency_ms_max: 50, regions: [eu-west, eu-north], strict: true}\n"
    assert read(text, tmp_path, {}).spec.placement == Placement(50, ("eu-west", "eu-north"), True)
    assert read(START + "placement: {regions: [a]}\n", tmp_path, {}).spec.placement == Placement(0, ("a",), False)
    assert read(START, tmp_path, {}).spec.placement is UNSET


@pytest.mark.parametrize(
    ("value", "where", "detail"),
    [
        ("{latency_ms_max: 0}", "4:29", "placement.latency_ms_max"),
        ("{latency_ms_max: 10001}", "4:29", "placement.latency_ms_max"),
        ("{latency_ms_max: soon}", "4:29", "placement.latency_ms_max"),
        ("{latency: 5}", "4:13", "unknown key `latency`"),
        ("{regions: EU}", "4:22", "placement.regions"),
        ("{regions: [EU]}", "4:23", "placement.regions[0]"),
        ("{regions: [a, a]}", "4:12", "twice"),
        ("{strict: perhaps, latency_ms_max: 5}", "4:21", "placement.strict"),
        ("{strict: true}", "4:12", "no latency to be strict about"),
        ("near", "4:12", "placement"),
        ("{regions: [" + ", ".join(f"r{n}" for n in range(17)) + "]}", "4:22", "at most 16"),
    ],
)
def test_nonsense_is_refused_at_its_place(value: str, where: str, detail: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        read(f"{START}placement: {value}\n", tmp_path, {})
    assert caught.value.detail.startswith(f"job.yml:{where}"), caught.value.detail
    assert detail in caught.value.detail
    assert caught.value.fix
