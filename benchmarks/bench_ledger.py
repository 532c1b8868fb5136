"""How fast the ledger is: the pure state machine, and durable signed operations through Orderer and Journal.

    python benchmarks/bench_ledger.py [chunks]

Prints one JSON object. `pure` executes decoded operations (CPU time of one core); `pure_with_root` folds the state root
every 64; `decoded` adds decoding from bytes. `durable` verifies every signature and fsyncs every block (wall time).
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from node.journal import Journal
from protocol import wire
from protocol.chain import Chain
from protocol.effects import Effect, Store
from protocol.genesis import Genesis
from protocol.identity import Identity, forget_checked, is_signed_by
from protocol.ledger import Checked, Ledger, check
from protocol.messages import Submit
from protocol.operations import Assign, Claim, EscrowOpen, Operation, SignedOp, Verdict, seal, signed_op
from protocol.units import CREDIT, HOUR, Digest, Micros, PeerId
from verifier.orderer import Orderer

NETWORK: Final = "bench"
START: Final = Micros(1_700_000_000_000_000)
CHUNKS_PER_ESCROW: Final = 50

_OWNER, STEWARD, _VALIDATOR = (Identity(bytes([n]) * 32) for n in (1, 2, 3))
_PROVIDERS = [Identity(bytes([16 + n]) * 32) for n in range(4)]


def genesis() -> Genesis:
    """One validator, one renter, four providers with stake."""
    stakes = tuple(("S", item.peer, 10**6 * CREDIT) for item in _PROVIDERS)
    balances = (("U", _OWNER.peer, 10**9 * CREDIT), *stakes)
    return Genesis(NETWORK, START, ((_VALIDATOR.peer, 1),), balances)  # type: ignore[arg-type]


def workload(chunks: int) -> list[SignedOp]:
    """Whole lives of chunks: escrow opened, then Assign (two signatures), Claim, Verdict each."""
    signed: list[SignedOp] = []
    for number in range((chunks + CHUNKS_PER_ESCROW - 1) // CHUNKS_PER_ESCROW):
        opened = signed_op(
            NETWORK,
            EscrowOpen(
                _OWNER.peer, 0, number, number.to_bytes(16, "big"), 100 * CREDIT, bytes(32), STEWARD.peer, START + HOUR
            ),
            _OWNER,
        )
        signed.append(opened)
        for chunk in range(min(CHUNKS_PER_ESCROW, chunks - number * CHUNKS_PER_ESCROW)):
            signed += _chunk(opened.op_id, chunk)
    return signed


def _chunk(escrow: Digest, chunk: int) -> list[SignedOp]:
    provider, validator = _PROVIDERS[chunk % len(_PROVIDERS)], _VALIDATOR
    output = Digest(chunk.to_bytes(32, "big"))
    watchers = (STEWARD.peer, _OWNER.peer, _VALIDATOR.peer)
    times = (START + HOUR // 2, START + HOUR)
    lives: list[tuple[Operation, tuple[Identity, ...]]] = [
        (Assign(escrow, chunk, 1, provider.peer, CREDIT, CREDIT, *times, watchers), (STEWARD, provider)),
        (Claim(escrow, chunk, 1, seal(provider.peer, bytes(32), output)), (provider,)),
        (Verdict(escrow, chunk, 1, "accept", False, validator.peer, output, output, "not_sampled"), (validator,)),
    ]
    return [signed_op(NETWORK, operation, *signers) for operation, signers in lives]


def pure(operations: list[Checked]) -> float:
    """Executed operations per second of CPU time."""
    ledger = Ledger(genesis())
    began = time.process_time()
    for item in operations:
        if ledger.execute(item.operation, item.op_id, item.signers).status != "applied":
            raise AssertionError("a refused operation is no benchmark")
    took = time.process_time() - began
    ledger.check()
    return len(operations) / took


def with_root(operations: list[Checked]) -> float:
    """The same, in blocks with headers, Merkle and state roots."""
    chain = Chain(genesis())
    began = time.process_time()
    for start in range(0, len(operations), 64):
        chain.extend(operations[start : start + 64], Micros(chain.ledger.time + 1_000))
    return len(operations) / (time.process_time() - began)


def decoded(signed: list[SignedOp]) -> float:
    """From bytes: strict decoding, id, execution. No signatures."""
    ledger = Ledger(genesis())
    began = time.process_time()
    for item in signed:
        ledger.apply(item, START, verified=True)
    return len(signed) / (time.process_time() - began)


def durable(signed: list[SignedOp]) -> dict[str, float]:
    """Through the real machine and the real file, submits of 16 operations; wall time and blocks."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        forget_checked()
        orderer = Orderer(_VALIDATOR, genesis(), journal)
        now = began = time.perf_counter_ns() // 1_000
        for start in range(0, len(signed), 16):
            now = time.perf_counter_ns() // 1_000
            _perform(orderer.receive(STEWARD.peer, Submit(tuple(signed[start : start + 16])), Micros(now)), journal)
        while orderer.ledger.height == 0 or len(orderer.ledger.outcomes) < len(signed):
            now = time.perf_counter_ns() // 1_000
            _perform(orderer.tick(Micros(now)), journal)
        took = (time.perf_counter_ns() // 1_000 - began) / 1e6
        blocks = len(journal)
        journal.close()
    return {"ops_per_s": len(signed) / took, "blocks": blocks, "seconds": took}


def verified(signed: list[SignedOp]) -> float:
    """The floor of everything durable: seconds to verify every signature of the work, and nothing else."""
    texts = [(wire.signing_bytes(NETWORK, "op", item.body), item.signatures) for item in signed]
    forget_checked()
    began = time.perf_counter()
    for text, signatures in texts:
        for one in signatures:
            if not is_signed_by(PeerId(one.signer), text, one.signature):
                raise AssertionError("a signature of the work is wrong")
    return time.perf_counter() - began


def _perform(effects: list[Effect], journal: Journal) -> None:
    journal.append([item.value for item in effects if isinstance(item, Store) and item.value is not None])


def main(chunks: int) -> dict[str, object]:
    """Run all of it once."""
    signed = workload(chunks)
    operations = [check(item, NETWORK, STEWARD.peer, verified=True) for item in signed]
    return {
        "benchmark": "ledger",
        "operations": len(signed),
        "signatures": sum(len(item.signatures) for item in signed),
        "pure_ops_per_s": round(max(pure(operations) for _ in range(3))),
        "pure_in_blocks_ops_per_s": round(max(with_root(operations) for _ in range(3))),
        "decoded_ops_per_s": round(max(decoded(signed) for _ in range(3))),
        "durable": durable(signed),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000), indent=1))
