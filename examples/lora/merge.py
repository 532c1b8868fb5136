"""The renter's side: which of the deltas that came back are merged, decided by records that no provider saw.

    python examples/lora/merge.py hide hidden.bin                # draw them; do it before the job, keep them
    python examples/lora/merge.py merge results hidden.bin       # writes merged.safetensors

Run it from a checkout of Shoal with the Python of its node; it needs numpy and no torch.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import yaml

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]  # This example's files, and Shoal's own packages.

import hidden  # noqa: E402

from protocol.errors import Refused  # noqa: E402
from protocol.units import PPM  # noqa: E402
from verifier import lora, tensors  # noqa: E402
from verifier.tensors import Array, Tensors  # noqa: E402
from verifier.usefulness import Usefulness, usefulness  # noqa: E402

TARGETS: Final = (".query.weight", ".value.weight")
"""Ends of the names of weights that get a delta, as in train.py."""

DELTA: Final = "model.safetensors"
"""What a chunk's result is called."""


@dataclass(frozen=True)
class Judged:
    """What the hidden records say of one chunk's delta."""

    chunk: str
    code: str
    """`ok`, or for what it is not merged."""
    detail: str
    useful: Usefulness | None = None
    delta: Tensors | None = None


def main(arguments: list[str]) -> int:
    """0: something was merged, or drawn. 1: nothing was. 2: misused."""
    match arguments:
        case ["hide", path]:
            return hide(Path(path))
        case ["merge", results, path]:
            return merge(Path(results), Path(path), Path("merged.safetensors"))
    print(__doc__, file=sys.stderr)
    return 2


def hide(path: Path) -> int:
    """Draw the records and say their digest, which may be told before and proves afterwards that they are the same."""
    path.write_bytes(hidden.drawn((HERE / "records.bin").read_bytes()))
    print(f"HIDDEN_SHA256: {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return 0


def merge(results: Path, path: Path, out: Path, job: Path = HERE / "job.yml") -> int:
    """Judge every delta below `results`, print a line for each, and write what the good ones add up to."""
    env = environment(job)
    promised = env.get("HIDDEN_SHA256", "")
    if promised and hashlib.sha256(path.read_bytes()).hexdigest() != promised:
        print("These are not the records whose digest the job names.", file=sys.stderr)
        return 1
    raw = (HERE / "base.safetensors").read_bytes()
    base, digest = tensors.decode(raw), hashlib.sha256(raw).digest()
    spec, records = specification(env, base), hidden.read(path)
    found = [judged(file, spec, base, digest, records) for file in sorted(results.rglob(DELTA))]
    before = hidden.loss(base, records)
    whole, chosen = soup(base, found, spec, records)
    for one in found:
        print(line(one, one.chunk in chosen))
    if not chosen:
        print(f"nothing merged: hidden loss {before:.4f}")
        return 1
    out.write_bytes(tensors.encode(whole))
    print(f"merged {len(chosen)} of {len(found)}: hidden loss {before:.4f} -> {hidden.loss(whole, records):.4f}, {out}")
    return 0


def environment(job: Path) -> dict[str, str]:
    """The job's own variables."""
    said = cast("dict[str, object]", yaml.load(job.read_text(encoding="utf-8"), yaml.BaseLoader))
    return cast("dict[str, str]", said["env"])


def specification(env: Mapping[str, str], base: Tensors) -> lora.LoraSpec:
    """What a delta of this job is."""
    targets = {name: (len(base[name]), base[name].shape[1]) for name in base if name.endswith(TARGETS)}
    change_max = round(float(env["CHANGE_MAX"]) * PPM)
    return lora.LoraSpec(bytes.fromhex(env["BASE_SHA256"]), int(env["RANK"]), int(env["ALPHA"]), targets, change_max)


def judged(
    file: Path,
    spec: lora.LoraSpec,
    base: Tensors,
    digest: bytes,
    records: npt.NDArray[np.int64],
) -> Judged:
    """Names, shapes, rank, finite numbers, size of the change, and then the hidden loss."""
    chunk = file.parent.name
    try:
        delta = tensors.decode(file.read_bytes())
        lora.check_delta(delta, spec, base, digest)
        before, after = lora.check_loss(lambda weights: hidden.loss(weights, records), delta, spec, base)
    except Refused as error:
        return Judged(chunk, error.code, error.detail)
    return Judged(chunk, "ok", f"hidden loss {before:.4f} -> {after:.4f}", usefulness(before, after), delta)


def soup(
    base: Tensors, found: list[Judged], spec: lora.LoraSpec, records: npt.NDArray[np.int64]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The mean of the base with each good delta, the best first and others where the mean gets better by them (greedy
    soup, Wortsman et al. 2022), and the chunks in it. The mean of A and that of B would be something else."""
    models: dict[str, dict[str, Array]] = {}
    for one in found:
        if one.delta is not None:
            models[one.chunk] = lora.merged(base, one.delta, spec)
    whole, chosen, least = dict(base), list[str](), hidden.loss(base, records)
    for chunk in sorted(models, key=lambda name: hidden.loss(models[name], records)):
        tried = mean([models[name] for name in (*chosen, chunk)])
        if (after := hidden.loss(tried, records)) < least:
            whole, least = tried, after
            chosen.append(chunk)
    return whole, tuple(chosen)


def mean(models: list[dict[str, Array]]) -> dict[str, Array]:
    """Weight by weight, in the precision of the weights."""
    return {
        name: np.mean([np.asarray(model[name], np.float64) for model in models], 0).astype(value.dtype)
        for name, value in models[0].items()
    }


def line(one: Judged, is_merged: bool) -> str:
    """For people: the bonus is in parts of the chunk's price."""
    bonus = f"bonus {one.useful.bonus / 10_000:.1f} % ({one.useful.code})" if one.useful is not None else "no bonus"
    return f"{one.chunk:>8}  {one.code:<16}  {'merged' if is_merged else '–':<6}  {bonus:<22}  {one.detail}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
