"""A job's receipt, checked offline: certified headers, Merkle proofs, operations, and every payment computed again.

What has to be trusted is the genesis file of the network alone. Gateway, steward and provider may lie: what they
change, and what they leave out of a chunk's history, shows up here as an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct

from node.clock import Clock
from protocol import job_books, operations, wire
from protocol.block import verify_receipts
from protocol.errors import Refused, RemoteViolation
from protocol.genesis import Genesis
from protocol.held import SPOILS
from protocol.inheritance import VOID
from protocol.jobspec import Manifest, OutputFile
from protocol.messages import Header, Outcome, Receipts
from protocol.operations import (
    Assign,
    Claim,
    EscrowClose,
    EscrowExtend,
    EscrowOpen,
    Handover,
    Operation,
    Ruling,
    Settle,
    SignedOp,
    Verdict,
)
from protocol.units import Digest, PeerId
from shoal.receipt_account import Account, Lease

NOBODY = PeerId(bytes(32))
RECEIPT_BYTES_MAX = 256 << 20
"""A receipt of 4096 chunks with several attempts each, 50 signatures per header, is a tenth of this."""


class JobReceipt(Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway hands out: one encoded `Receipts` per operation, in the ledger's order."""

    chain: str
    job: bytes
    escrow: bytes
    receipts: tuple[bytes, ...]


def decode(data: bytes) -> JobReceipt:
    """The receipt in these bytes; `Refused` (`not_a_receipt`) when they are none."""
    try:
        return wire.decode(data, wire.decoder(JobReceipt), NOBODY, size_max=RECEIPT_BYTES_MAX)
    except RemoteViolation as error:
        raise Refused(
            f"this is no receipt: {error.rule}", code="not_a_receipt", fix="Get it again with `shoal job receipt`."
        ) from error


def verify(data: bytes, genesis: Genesis, at: int | None = None) -> Account:
    """Check everything and compute the money. Raises Refused with what is wrong (`receipt_false`, `receipt_gap`).

    `at`: ledger time, µs, that the account is of, where that is after its last block: windows end without an
    operation. None: now."""
    receipt = decode(data)
    if receipt.chain != genesis.chain:
        raise false(f"it is of network {receipt.chain!r}, the genesis file is of {genesis.chain!r}")
    account = Account(escrow_id=receipt.escrow, books=job_books.kept(genesis, receipt.escrow))
    heights: set[int] = set()
    seen: set[bytes] = set()
    for raw in receipt.receipts:
        for operation, signed, outcome, header in _proved(raw, genesis):
            if outcome.op in seen:
                continue  # Ordered again, which does nothing: whoever has the bytes can ask for that.
            heights.add(header.height)
            account.operations += 1
            if outcome.status == "applied":  # One that was refused may come again.
                seen.add(outcome.op)
                _apply(account, operation, outcome.op, receipt)
                _remember(account, operation, header)
                _book(account, operation, signed, header)
            account.time = max(account.time, header.time)
    account.blocks = len(heights)
    if not account.cap:
        raise gap("it does not hold the operation that opened the escrow")
    _bring_up(account, Clock().now() if at is None else at)
    paid = account.paid + account.commission + account.audits
    if account.is_closed and account.books is None:
        account.refunded = account.cap - paid
    unexplained = account.books.unexplained if account.books is not None else 0
    if paid + account.waiting > account.cap + unexplained:
        waiting = f" and {account.waiting} set aside" if account.waiting else ""
        raise gap(f"{paid} units were paid{waiting}, its operations put {account.cap} in")
    return account


def verify_outputs(account: Account, files: Iterable[tuple[int, str, str, int]], has_reduce: bool) -> int:
    """Check result files (chunk, path, BLAKE3 hex digest, bytes) against the verdicts: the files of a chunk make a
    manifest, and its digest is what was judged and paid. Returns the number of chunks; raises Refused."""
    by_chunk: defaultdict[int, list[OutputFile]] = defaultdict(list)
    for chunk, path, digest, size in files:
        inner = path if has_reduce else path.removeprefix(f"{chunk}/")
        by_chunk[chunk].append(OutputFile(inner, bytes.fromhex(digest), size))
    judged = account.outputs()
    for chunk, listed in by_chunk.items():
        if judged.get(chunk) != output_of(listed):
            raise false(f"the files of chunk {chunk} are not those that were judged")
    return len(by_chunk)


def output_of(files: Iterable[OutputFile]) -> Digest:
    """What a verdict says of a chunk with these files: the digest of their manifest."""
    return wire.digest(wire.encode(Manifest(tuple(sorted(files, key=lambda file: file.path)))))


def false(what: str) -> Refused:
    """The receipt does not hold."""
    return Refused(
        f"the receipt is false: {what}",
        code="receipt_false",
        fix="Get it from another gateway, and do not trust this one.",
    )


def gap(what: str) -> Refused:
    """The receipt is not whole."""
    return Refused(f"the receipt has a gap: {what}", code="receipt_gap", fix="Get it again when the job is settled.")


def _book(account: Account, operation: Operation, signed: SignedOp, header: Header) -> None:
    """The same operation in the books of a network with a policy."""
    if account.books is None:
        return
    signers = frozenset(item.signer for item in signed.signatures)
    try:
        account.books.order(operation, signed.op_id, signers, header.time)
    except Refused as error:
        raise gap(f"{type(operation).__name__} of block {header.height} cannot have been applied: {error}") from error


def _remember(account: Account, operation: Operation, header: Header) -> None:
    """What the opened units are compared with (`shoal.units_file`)."""
    match operation:
        case EscrowOpen():
            account.spec = operation.spec
        case Claim():
            account.claims[operation.chunk, operation.epoch] = (operation, header)
        case Verdict():
            account.verdicts[operation.chunk, operation.epoch] = operation
        case _:
            pass


def _bring_up(account: Account, at: int) -> None:
    """What happened by itself since the last operation, and what came of every lease."""
    if account.books is None:
        return
    account.time = max(account.time, at)
    account.books.advance(account.time)
    escrow = account.books.escrow
    if escrow is None:
        return
    account.cap, account.refunded, account.is_closed = escrow.cap, escrow.refunded, escrow.is_closed
    for lease in account.leases.values():
        if lease.outcome not in ("handed", "settled"):
            lease.paid, lease.commission = account.books.paid(lease.chunk, lease.epoch)
    for chunk, known in escrow.chunks.items():
        for item in known.carried:
            lease, fee = account.leases[chunk, item.epoch], operations.commission(item.amount)
            is_paid = item.outcome == "paid"
            lease.paid, lease.commission = (item.amount - fee, fee) if is_paid else (0, 0)
            lease.waits = 0 if item.outcome else item.amount


def _proved(raw: bytes, genesis: Genesis) -> Iterable[tuple[Operation, SignedOp, Outcome, Header]]:
    try:
        receipts = wire.decode(raw, wire.decoder(Receipts), NOBODY, size_max=RECEIPT_BYTES_MAX)
        proved = verify_receipts(receipts, genesis.validator_set, NOBODY)
    except RemoteViolation as error:
        raise false(error.rule) from error
    return [(operation, signed, outcome, receipts.header) for operation, signed, outcome in proved]


def _apply(account: Account, operation: Operation, op_id: bytes, receipt: JobReceipt) -> None:
    match operation:
        case EscrowOpen():
            if op_id != receipt.escrow or operation.job != receipt.job:
                raise false("it opens another escrow than it names")
            account.cap = operation.cap
        case EscrowExtend(escrow=receipt.escrow):
            if not account.cap:
                raise gap("it does not hold the operation that opened the escrow")
            account.cap += operation.amount
        case Assign(escrow=receipt.escrow):
            _assign(account, operation)
        case Verdict(escrow=receipt.escrow):
            _judge(_lease(account, operation), operation)
            _end_carried(account, operation.chunk, operation.outcome)
        case Ruling(escrow=receipt.escrow):
            _rule(account, operation)
        case Handover(escrow=receipt.escrow):
            _hand_over(account, operation)
        case Settle(escrow=receipt.escrow):
            lease = _lease(account, operation)
            lease.outcome = "settled"
            lease.commission = operations.commission(operation.cumulative)
            lease.paid = operation.cumulative - lease.commission
            _pay_carried(account, operation.chunk)
        case EscrowClose(escrow=receipt.escrow):
            for chunk in {lease.chunk for lease in account.leases.values()}:
                _void_carried(account, chunk)
            account.is_closed = True
        case _ if getattr(operation, "escrow", b"") != receipt.escrow:
            raise false("it holds an operation of another job")
        case _:
            _lease_ended(account, operation)


def _assign(account: Account, operation: Assign) -> None:
    before = [epoch for chunk, epoch in account.leases if chunk == operation.chunk]
    if operation.epoch != max(before, default=0) + 1:
        raise gap(f"chunk {operation.chunk} goes from epoch {max(before, default=0)} to {operation.epoch}")
    account.leases[operation.chunk, operation.epoch] = Lease(
        operation.chunk, operation.epoch, operation.provider, operation.price, operation.collateral,
        evidence=operation.evidence or 0,
    )  # fmt: skip


def _lease(account: Account, operation: Verdict | Settle | Handover) -> Lease:
    lease = account.leases.get((operation.chunk, operation.epoch))
    if lease is None:
        raise gap(f"chunk {operation.chunk} epoch {operation.epoch} ends but was never leased")
    if lease.outcome:
        raise false(f"chunk {operation.chunk} epoch {operation.epoch} ends twice")
    return lease


def _judge(lease: Lease, verdict: Verdict) -> None:
    lease.is_audited, lease.auditor, lease.output = verdict.is_audited, verdict.auditor, verdict.output
    lease.audit_paid = lease.evidence if verdict.is_audited else 0
    lease.agreed, lease.is_spared = verdict.agreed or (), bool(verdict.blamed)
    _find(lease, verdict.outcome, verdict.code)


def _find(lease: Lease, finding: str, code: str) -> None:
    """What holds now, and what it pays and takes."""
    is_paid = finding == "accept"
    if lease.is_spared and not is_paid:
        finding = VOID
    lease.outcome, lease.code = finding, code
    lease.commission = operations.commission(lease.price) if is_paid else 0
    lease.paid = lease.price - lease.commission if is_paid else 0
    lease.slashed = 0 if is_paid else operations.slash(lease.price, lease.collateral, finding)


def _rule(account: Account, ruling: Ruling) -> None:
    """A panel found otherwise than the judges: what the verdict moved was only held, and something else moves."""
    lease = account.leases.get((ruling.chunk, ruling.epoch))
    if lease is None or not lease.outcome:
        raise gap(f"chunk {ruling.chunk} epoch {ruling.epoch} is ruled on but was never judged")
    if ruling.outcome == "upheld":
        return
    _find(lease, ruling.finding, ruling.code)
    lease.audit_paid = 0
    _end_carried(account, ruling.chunk, ruling.finding)


def _end_carried(account: Account, chunk: int, finding: str) -> None:
    if finding == "accept":
        _pay_carried(account, chunk)
    elif finding in SPOILS:
        _void_carried(account, chunk)


def _hand_over(account: Account, operation: Handover) -> None:
    lease, before = _lease(account, operation), account.done.get(operation.chunk, 0)
    if not before <= operation.done_ppm <= operations.HANDED_PPM_MAX:
        raise gap(f"chunk {operation.chunk} is handed over at {operation.done_ppm} ppm after {before} ppm")
    lease.outcome, lease.done_ppm = "handed", operation.done_ppm
    lease.waits = operations.handed_share(lease.price, before, operation.done_ppm)
    account.done[operation.chunk] = operation.done_ppm


def _pay_carried(account: Account, chunk: int) -> None:
    """The chunk has its result: everybody who brought it on is paid his share."""
    for lease in account.carried(chunk):
        lease.commission = operations.commission(lease.waits)
        lease.paid, lease.waits = lease.waits - lease.commission, 0


def _void_carried(account: Account, chunk: int) -> None:
    """The chunk's result is wrong or never came: the shares are the renter's again."""
    for lease in account.carried(chunk):
        lease.waits, lease.code = 0, "void"
    account.done.pop(chunk, None)


def _lease_ended(account: Account, operation: Operation) -> None:
    """Claims change nothing about money; fences and surrenders end a lease without a payment."""
    lease = account.leases.get((getattr(operation, "chunk", -1), getattr(operation, "epoch", -1)))
    if isinstance(operation, operations.Fence | operations.Surrender) and lease is not None:
        lease.outcome = "fenced" if isinstance(operation, operations.Fence) else "surrendered"
