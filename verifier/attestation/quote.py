"""What every kind of quote comes down to: which hardware, which measured software, bound to which 32 or 64 bytes."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.proof import HardwareKind

Maker = HardwareKind


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote whose signature and chain have been checked."""

    maker: Maker
    measurement: bytes
    """What was measured: of a virtual machine its initial memory and kernel, of a GPU its firmware and its mode."""
    report_data: bytes
    """What the machine was asked to sign along; nothing else says for whom the quote was made."""
    is_debug: bool
    """A debugger could look into it: it protects nothing."""
    versions: tuple[int, ...]
    """Security versions of the platform's parts; higher is newer. The policy says the least of each."""
