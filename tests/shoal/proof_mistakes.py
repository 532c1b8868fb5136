"""Job files whose `proof`, `numeric` or `trust` make no sense: text, place, code, what is said, what to do."""

from __future__ import annotations

from typing import Final

START: Final = "type: task\nname: x\ncommands: [a]\n"
TORCH: Final = START + "runtime: torch\n"
WASM: Final = "type: task\nname: x\nwasm: m.wasm\n"


def proof(inside: str, more: str = "") -> str:
    return f"{START}{more}proof: {{{inside}}}\n"


MISTAKES: Final = (
    (START + "proof: training\n", "4:8", "bad_job_file", "a map", "map"),
    (START + "proof: [training]\n", "4:8", "bad_job_file", "found a list", "map"),
    (proof(""), "4:8", "missing_key", "proof.class", "class"),
    (proof("units: 3"), "4:8", "missing_key", "proof.class", "class"),
    (proof("class: trainig"), "4:16", "bad_job_file", "`trainig`", "Did you mean `training`?"),
    (proof("kind: training"), "4:9", "unknown_key", "proof.kind", "`class`"),
    (proof("class: training, steps: 3"), "4:26", "unknown_key", "proof.steps", "`units`"),
    (proof("class: training, flops: fast"), "4:33", "bad_job_file", "proof.flops", "2.5e12"),
    (proof("class: training, flops: 0.5"), "4:33", "bad_job_file", "from 1 to 4.6e+18", "Write"),
    (proof("class: training, bytes: 1e19"), "4:33", "bad_job_file", "proof.bytes", "Write"),
    (proof("class: training, flop: 1e9"), "4:26", "unknown_key", "proof.flop", "not per second"),
    (proof("class: training, k: 3"), "4:26", "unknown_key", "proof.k", "`samples`"),
    (proof("class: training, units: -1"), "4:33", "bad_job_file", "0 to 4096", "whole number"),
    (proof("class: training, units: 4097"), "4:33", "bad_job_file", "0 to 4096", "whole number"),
    (proof("class: training, units: many"), "4:33", "bad_job_file", "`many`", "whole number"),
    (proof("class: training, units: 8, samples: 0"), "4:45", "bad_job_file", "1 to 64", "whole number"),
    (proof("class: training, units: 99, samples: 65"), "4:46", "bad_job_file", "1 to 64", "whole number"),
    (proof("class: training, units: 8, samples: 9"), "4:45", "bad_job_file", "at most the 8 units", "Raise `units`"),
    (proof("class: training, samples: 2"), "4:35", "bad_job_file", "the whole chunk is one", "Raise `units`"),
    (proof("class: general, auditors: 6"), "4:35", "bad_job_file", "1 to 5", "whole number"),
    (proof("class: general, numeric: D4"), "4:34", "bad_job_file", "`D4`", "D0"),
    (START + "numeric: exact\n", "4:10", "bad_job_file", "`exact`", "D0"),
    (proof("class: general, numeric: D0", "numeric: D2\n"), "5:34", "bad_job_file", "as `numeric` at the top", "once"),
    (WASM + "numeric: D3\n", "4:10", "bad_job_file", "D0 for wasm", "Leave `numeric` out"),
    (WASM + "proof: {class: deterministic, numeric: D2}\n", "4:40", "bad_job_file", "D0 for wasm", "Leave `numeric`"),
    (WASM + "numeric: D1\n", "4:10", "bad_job_file", "D0 for wasm", "Leave `numeric` out"),
    (START + "numeric: D3\n", "4:10", "bad_spec", "a tolerance needs a proof", "Give `proof`"),
    (proof("class: training, numeric: D3"), "4:8", "bad_spec", "within a tolerance", "tolerance"),
    (proof("class: training, tolerance: training/sgd", "numeric: D3\n"), "5:37", "bad_spec", "units", "units"),
    (proof("class: deterministic, units: 2, tolerance: training/sgd", "numeric: D3\n"), "5:16", "bad_spec",
     "nothing compares deterministic", "D3 is for"),
    (proof("class: training, units: 2, tolerance: training/sgd"), "4:47", "bad_spec", "D2 is exact", "D3"),
    (proof("class: training, units: 2"), "1:1", "bad_spec", "needs NumPy", "torch"),
    (proof("class: training, tolerance: loose"), "4:37", "bad_job_file", "`loose`", "training/adamw"),
    (proof("class: training, tolerance: training/adam"), "4:37", "bad_job_file", "`training/adam`", "training/adamw"),
    (proof("class: training, tolerance: {ok: 1e-5}"), "4:37", "missing_key", "tolerance.bad", "both"),
    (proof("class: training, tolerance: {bad: 1e-5}"), "4:37", "missing_key", "tolerance.ok", "both"),
    (proof("class: training, tolerance: {t_ok: 1e-5}"), "4:38", "unknown_key", "t_ok", "Write `ok`"),
    (proof("class: training, tolerance: {ok: nan, bad: 1}"), "4:42", "bad_job_file", "`nan`", "error such as"),
    (proof("class: training, tolerance: {ok: -1e-3, bad: 1}"), "4:42", "bad_job_file", "`-1e-3`", "error such as"),
    (proof("class: training, tolerance: {ok: 1e-13, bad: 1}"), "4:42", "bad_job_file", "1e-12", "error from"),
    (proof("class: training, tolerance: {ok: 2, bad: 3}"), "4:42", "bad_job_file", "1e-12 to 1", "error from"),
    (proof("class: training, units: 4, tolerance: {ok: 1e-3, bad: 4e-3}", "numeric: D3\n"), "5:47", "no_margin",
     "less than 5", "bitwise"),
    (proof("class: certificate"), "4:8", "bad_spec", "checked by a program", "lines that check"),
    (proof("class: general, check: []"), "4:32", "bad_job_file", "1 to 32 command lines", "script"),
    (proof("class: general, check: [a, b, c, d, e, f, g, h, i]"), "4:32", "bad_job_file", "at most 8", "one script"),
    (WASM + "proof: {class: general, check: [a, b]}\n", "4:32", "bad_spec", "wasm takes one line", "one line"),
    (START + "ports: [80]\nproof: {class: general}\n", "5:8", "bad_spec", "nobody else can compute", "Leave"),
    (START + "shell: true\ntrust: high\n", "5:8", "bad_spec", "never audited", "Leave `trust` out"),
    (START + "trust: 0.99\n", "4:8", "bad_job_file", "basic", "certain"),
    (START + "trust: hihg\n", "4:8", "bad_job_file", "`hihg`", "Did you mean `high`?"),
    (START + "trust: yes\n", "4:8", "bad_job_file", "`yes`", "quotes"),
    (START + "trust: high\naudit: 0.5\n", "5:8", "bad_job_file", "audits 30 %", "Leave one of the two"),
    (START + "tolerance: 0.1\n", "4:1", "unknown_key", "tolerance", "under `proof`"),
    (START + "units: 8\n", "4:1", "unknown_key", "units", "under `proof`"),
)  # fmt: skip
