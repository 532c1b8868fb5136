"""Bodies of announced statements: fetched once per peer, kept for as long as neighbours may ask. Spec: 22-gossip."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from typing import Final

from node.requests import Requests
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.gossip.announcement import Announcement, Body, BodyRequest
from protocol.identity import peer_text
from protocol.units import MIB, Digest, PeerId

QUESTION: Final = "statement"
"""Name of the question."""

KEPT_BYTES_MAX: Final = 16 * MIB
"""Bodies kept for neighbours, the newest."""

FETCHES_MAX: Final = 32
"""Bodies under way at a time; beyond that an announcement is forgotten and counts when it comes again."""

FETCH_S: Final = 5.0
"""Deadline of one attempt."""

log: Final = logging.getLogger("shoal.transport")

_request: Final = wire.decoder(BodyRequest)
_reply: Final = wire.decoder(Body)
_signed: Final = wire.decoder(wire.Signed)


class Bodies:
    """Asks forwarders for bodies, and answers neighbours."""

    def __init__(self, requests: Requests, counts: Counter[str]) -> None:
        self._requests = requests
        self._counts = counts
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()
        self._bytes = 0
        self._fetching = 0
        requests.serve(QUESTION, _request, self._answer)

    @property
    def has_room(self) -> bool:
        """Whether one more may be fetched now."""
        return self._fetching < FETCHES_MAX

    def keep(self, data: bytes) -> None:
        """Have a body ready for neighbours."""
        digest = wire.digest(data)
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return
        self._kept[digest] = data
        self._bytes += len(data)
        while self._bytes > KEPT_BYTES_MAX:
            self._bytes -= len(self._kept.popitem(last=False)[1])

    async def fetch(self, peer: PeerId, announcement: Announcement) -> wire.Signed | None:
        """The statement behind an announcement, or None when the peer does not hand it out.

        RemoteViolation when what it hands out is something else. The signature is for the caller to check."""
        self._fetching += 1
        try:
            body = await self._requests.ask(peer, QUESTION, BodyRequest(announcement.digest), _reply, FETCH_S)
        except (Refused, Unavailable) as error:
            log.info("%s announced a statement and does not hand it out: %s", peer_text(peer), error.detail)
            return None
        finally:
            self._fetching -= 1
        if len(body.data) != announcement.size or wire.digest(body.data) != announcement.digest:
            raise RemoteViolation(peer, "a body that is not the announced one", code="bad_digest")
        signed = wire.decode(body.data, _signed, peer)
        if signed.signer != announcement.signer:
            raise RemoteViolation(peer, "a statement announced in another's name", code="bad_signer")
        self._counts["bodies_fetched"] += 1
        return signed

    async def _answer(self, peer: PeerId, request: BodyRequest) -> Body:
        data = self._kept.get(Digest(request.digest))
        if data is None:
            raise Unavailable("the body is not here", code="no_body")
        self._counts["bodies_served"] += 1
        return Body(data)
