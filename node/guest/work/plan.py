"""What a training job fixes in its specification: optimizer, learning rate, batch, data set, numeric class.

The learning rate of somebody who wants to look busy shrinks; here it is part of the specification's environment, and
the digest of all of it is part of every unit's input.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Optional

EPSILON = {"D1": 1e-4, "D3": 1e-5}
"""AdamW's unless said otherwise. With 1e-8 a gradient that is zero but for rounding moves its weight like any other,
and no tolerance separates that noise from a cheat. On the grid the root of a variance below 2^-48 is zero."""


@dataclass(frozen=True)
class Plan:
    """All numbers of a run."""

    optimizer: str
    """`sgd` or `adamw`."""
    rate: float
    """Learning rate."""
    batch: int
    """Records per step."""
    steps: int
    """Optimizer steps per unit."""
    numeric: str
    """`D1`: fp64 on a grid, equal bits everywhere; `D3`: fp32, within a tolerance."""
    record_bytes: int
    """Bytes of one record of the data set."""
    root: bytes
    """Merkle root of the data set's records."""
    momentum: float = 0.9
    """SGD's momentum, AdamW's first decay."""
    second: float = 0.999
    """AdamW's second decay."""
    decay: float = 0.0
    """Weight decay: within the gradient under SGD, beside it under AdamW."""
    epsilon: float = 1e-5
    """AdamW's."""

    @classmethod
    def from_environment(cls, values: Optional[Mapping[str, str]] = None) -> Plan:
        """OPTIMIZER, LEARNING_RATE, BATCH, STEPS, NUMERIC, RECORD_BYTES, DATA_ROOT (hex), and if they differ from the
        usual MOMENTUM, SECOND_MOMENT, WEIGHT_DECAY, EPSILON. Raises KeyError, ValueError."""
        env = os.environ if values is None else values
        plan = cls(
            optimizer=env["OPTIMIZER"],
            rate=float(env["LEARNING_RATE"]),
            batch=int(env["BATCH"]),
            steps=int(env["STEPS"]),
            numeric=env.get("NUMERIC", "D1"),
            record_bytes=int(env["RECORD_BYTES"]),
            root=bytes.fromhex(env["DATA_ROOT"]),
            momentum=float(env.get("MOMENTUM", "0.9")),
            second=float(env.get("SECOND_MOMENT", "0.999")),
            decay=float(env.get("WEIGHT_DECAY", "0")),
            epsilon=float(env.get("EPSILON", EPSILON[env.get("NUMERIC", "D1")])),
        )
        if plan.optimizer not in ("sgd", "adamw") or plan.numeric not in EPSILON or len(plan.root) != 32:
            raise ValueError(f"no such plan: {plan}")
        if min(plan.batch, plan.steps, plan.record_bytes) < 1 or not plan.rate > 0:
            raise ValueError(f"nothing would be learned: {plan}")
        return plan

    @property
    def is_exact(self) -> bool:
        """Whether states are equal bytes on every machine."""
        return self.numeric == "D1"

    @property
    def moments(self) -> tuple[str, ...]:
        """Prefixes of the optimizer's own tensors."""
        if self.optimizer == "adamw":
            return ("momentum/", "variance/")
        return ("momentum/",) if self.momentum else ()

    @property
    def digest(self) -> bytes:
        """32 bytes of all the numbers."""
        text = json.dumps({**asdict(self), "root": self.root.hex()}, sort_keys=True)
        return hashlib.sha256(text.encode()).digest()
