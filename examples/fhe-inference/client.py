"""The renter's side. The secret key stays here; what leaves is public.

    python client.py encrypt ROWS.json KEYS SEND     # SEND/ goes with the job
    python client.py decrypt KEYS RESULTS ANSWERS.json   # of all chunks

Among the rows are canaries: rows whose answers the renter has computed. Encrypted, nobody can tell them from others.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

import tenseal
from model import INPUTS, answer

CANARIES_EACH = 4
"""One canary for so many rows: who answers a tenth of the rows wrongly escapes 12 of them with 28 %."""

TOLERANCE = 0.05
"""Error of an answer: the scheme rounds to about 1e-3 here; a wrong model is off by tenths."""


def encrypt(rows: Path, keys: Path, send: Path) -> None:
    """Write the secret key and the places of the canaries to KEYS, everything public to SEND."""
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    context.global_scale = 2**40
    context.generate_galois_keys()
    inputs: list[list[float]] = json.loads(rows.read_text())
    dice = secrets.SystemRandom()
    canaries = [[dice.random() for _ in range(INPUTS)] for _ in range(max(1, len(inputs) // CANARIES_EACH))]
    order = list(range(len(inputs) + len(canaries)))
    dice.shuffle(order)
    mixed = [*inputs, *canaries]
    for folder in (keys, send):
        folder.mkdir(parents=True, exist_ok=True)
    places = {"order": order, "rows": len(inputs), "canaries": [answer(row) for row in canaries]}
    (keys / "places.json").write_text(json.dumps(places))
    (keys / "context").write_bytes(context.serialize(save_secret_key=True))
    (send / "context").write_bytes(context.serialize(save_secret_key=False))
    for place, index in enumerate(order):
        (send / f"{place}.in").write_bytes(tenseal.ckks_vector(context, mixed[index]).serialize())


def decrypt(keys: Path, result: Path, answers: Path) -> str:
    """Write the answers in the order of the rows; returns what is wrong, empty when every canary came out right."""
    context = tenseal.context_from((keys / "context").read_bytes())
    known = json.loads((keys / "places.json").read_text())
    found: dict[int, list[float]] = {}
    for place, index in enumerate(known["order"]):
        file = next(result.rglob(f"{place}.out"), None)
        if file is None:
            return f"answer {place} is missing"
        try:
            found[index] = tenseal.ckks_vector_from(context, file.read_bytes()).decrypt()
        except (RuntimeError, ValueError) as error:
            return f"answer {place} is no ciphertext: {error}"
    for number, wanted in enumerate(known["canaries"]):
        got = found[known["rows"] + number]
        error = max(abs(a - b) for a, b in zip(got, wanted, strict=False)) if len(got) >= len(wanted) else float("inf")
        if not error <= TOLERANCE:
            return f"wrong_canary: canary {number} is off by {error:.3g}, {TOLERANCE} is allowed"
    answers.write_text(json.dumps([found[index] for index in range(known["rows"])]))
    return ""


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "encrypt":
        encrypt(Path(words[0]), Path(words[1]), Path(words[2]))
    else:
        sys.exit(decrypt(Path(words[0]), Path(words[1]), Path(words[2])) or 0)
