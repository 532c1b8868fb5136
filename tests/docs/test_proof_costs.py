"""The table "What proof costs" has every class of work, and `make bench ARGS=proof` measures what it says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

from benchmarks import bench_proof, proof_modules
from benchmarks.proof_cases import CASES, measure
from protocol.proof import SAMPLES_MAX, Kind
from verifier.challenge import fixed

TEXT: Final = (Path(__file__).parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
SECTION: Final = TEXT.split("## What proof costs\n")[1].split("\n## ")[0]


def test_the_section_has_a_row_for_every_class_and_names_its_command() -> None:
    assert "make bench ARGS=proof" in SECTION
    named = {line.split("`")[1] for line in SECTION.splitlines() if line.startswith("| `")}
    assert named == set(get_args(Kind))


def test_every_case_is_audited_as_often_as_a_job_may_ask_for() -> None:
    assert {case.title for case in CASES} | {"WebAssembly"} == set(bench_proof.AUDITS)
    for title, (samples, units, _) in bench_proof.AUDITS.items():
        assert samples <= SAMPLES_MAX and samples < units, title
    samples, units, _ = bench_proof.AUDITS["training, fp32"]
    assert (samples - fixed(samples), 0.9 ** (samples - fixed(samples)) < 0.01, 10 * samples) == (44, True, units)


def test_a_trace_is_counted_beside_the_work_and_a_replay_beside_its_unit(tmp_path: Path) -> None:
    streams = next(case for case in CASES if case.title == "scientific, streams")
    small = replace(streams, env=(("DARTS", "400000"),), python=Path(sys.executable))
    cost = measure(small, tmp_path)
    assert cost.unit_s > 0 and 0 < cost.overhead < 10 and 0.1 < cost.again < 10
    assert 200 < cost.opened < 400 and cost.kept > cost.sent > 0


def test_a_module_keeps_three_pages_for_each_unit(tmp_path: Path) -> None:
    cost = proof_modules.measure(tmp_path)
    assert 3 * 65536 < cost.sent < 3 * 65536 + 200 < cost.kept
    assert 0 < cost.overhead < 1 and 0.3 < cost.again < 3
