"""A provider that lies: it changes what its jobs put out before it claims, or one state of a trace. For tests and
`shoal demo --cheat` only.

`node.config` refuses it unless the environment says that this is a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from msgspec import structs

from node.proving.program import is_check, is_finish, is_replay
from node.runner import Runner, Tell, deaf
from protocol import wire
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.identity import SEED_BYTES
from protocol.jobspec import ZERO_DIGEST, Manifest, OutputFile
from protocol.proof import STATE_BYTES_MAX, Trace
from protocol.trace import TRACE_BYTES_MAX, decode_trace
from protocol.units import Digest, PeerId

FLIPPED: Final = 64
"""Bytes changed in the middle of each file: a visible scratch in a picture."""

_manifest_decoder: Final = wire.decoder(Manifest)
_NOBODY: Final = PeerId(bytes(SEED_BYTES))


class WrongPixels(Runner):
    """Runs jobs like any other host, then scratches the output."""

    _made: Digest = ZERO_DIGEST
    """The last output that it scratched."""

    async def run(
        self,
        work: Run,
        on_log: Callable[[tuple[str, ...]], None],
        on_start: Callable[[str], None],
        tell: Tell = deaf,
    ) -> RunDone:
        """The true result, changed, whatever the job's own check says of it. Audits it does as everybody: a lie there
        would be found by the next auditor."""
        done = await super().run(work, on_log, on_start, tell)
        if is_check(work):
            is_own = work.result == self._made
            return replace(done, reason="ok", detail="", output=work.result) if is_own else done
        if done.reason != "ok" or is_replay(work) or is_finish(work):
            return done
        if done.trace != ZERO_DIGEST:
            return replace(done, trace=self._wrong_unit(done.trace))
        manifest = wire.decode(self._blobs.read(done.output, 16 << 20), _manifest_decoder, _NOBODY, 16 << 20)
        changed = Manifest(tuple(self._scratch(file) for file in manifest.files))
        self._made = self._blobs.put(wire.encode(changed))
        return replace(done, output=self._made)

    def _wrong_unit(self, digest: Digest) -> Digest:
        """A trace in which the state in the middle is another one, and everything else is as it was computed."""
        trace = decode_trace(self._blobs.read(digest, TRACE_BYTES_MAX), _NOBODY)
        leaves = list(trace.leaves)
        middle = leaves[len(leaves) // 2]
        state = bytearray(self._blobs.read(Digest(middle.state), STATE_BYTES_MAX))
        state[-1] ^= 1
        forged = self._blobs.put(bytes(state))
        leaves[middle.index] = structs.replace(middle, state=forged)
        return self._blobs.put(wire.encode(Trace(tuple(leaves), trace.effects)))

    def _scratch(self, file: OutputFile) -> OutputFile:
        data = bytearray(self._blobs.read(Digest(file.digest), 1 << 30))
        middle = len(data) // 2
        for index in range(middle, min(len(data), middle + FLIPPED)):
            data[index] ^= 0xFF
        return OutputFile(file.path, self._blobs.put(bytes(data)), len(data))
