"""Judges who have heard different offers, lose messages and restart sign the same bytes about an appeal."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import wire
from protocol.effects import Effect, Send
from protocol.held import Held
from protocol.ledger import operation_decoder
from protocol.messages import AuditRequest, Submit
from protocol.operations import Ruling
from protocol.units import PeerId
from tests.protocol.ledger_world import RENTER
from tests.verifier.appeals import AUDITORS, BAD, GOOD, Appeals
from tests.verifier.quorum import KEYS
from verifier.court import Court
from verifier.summons import Fitness

heard = st.lists(st.sampled_from(("fit", "unknown")), min_size=len(AUDITORS), max_size=len(AUDITORS))
books = st.tuples(heard, heard, heard, heard)
some = st.sets(st.integers(0, len(AUDITORS) - 1), max_size=5)


class Watched(Appeals):
    """Appeals whose rulings and requests are kept as they were sent."""

    def watch(self) -> None:
        self.signed: set[bytes] = set()
        self.signers: set[PeerId] = set()
        self.requests: set[bytes] = set()
        put = self.quorum.put

        def kept(sender: PeerId, effects: list[Effect]) -> None:
            for effect in effects:
                if isinstance(effect, Send) and isinstance(effect.message, Submit):
                    for item in effect.message.operations:
                        if isinstance(wire.decode(item.body, operation_decoder, sender), Ruling):
                            self.signed.add(item.body)
                            self.signers.add(sender)
                elif isinstance(effect, Send) and isinstance(effect.message, AuditRequest):
                    self.requests.add(wire.encode(effect.message))
            put(sender, effects)

        self.quorum.put = kept  # type: ignore[method-assign]

    def know(self, books: tuple[list[Fitness], ...]) -> None:
        """What each judge has heard of each auditor."""
        for key, book in zip(KEYS, books, strict=True):
            self.books[key.peer] = {item.peer: word for item, word in zip(AUDITORS, book, strict=True)}

    def ruled(self, seconds: int) -> Held:
        """Until there is a ruling, so many seconds at most, and a moment longer for the others' signatures."""
        for _ in range(0, seconds, 5):
            if self.held.round:
                break
            self.run(5)
        return self.run(5)

    def restart(self, index: int) -> None:
        """A judge ends, and comes back with its disk."""
        key = KEYS[index]
        self.quorum.start(key)
        court = self.quorum.beside[key.peer][0]
        assert isinstance(court, Court)
        self.quorum.put(key.peer, court.restore(self.quorum.disks[key.peer].items(), self.quorum.now))


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(books=books, lying=some, silent=some)
def test_different_offer_books_do_not_make_different_rulings(
    books: tuple[list[Fitness], ...], lying: set[int], silent: set[int]
) -> None:
    """Some lie, some are away: every judge comes to the same, right or wrong."""
    appeals = Watched(
        BAD,
        lying=frozenset(AUDITORS[n].peer for n in lying),
        silent=frozenset(AUDITORS[n].peer for n in silent),
    )
    appeals.know(books)
    appeals.watch()
    appeals.decided("accept")
    appeals.appeal(RENTER)
    held = appeals.ruled(15 * 60)
    assert held.round == 1 and held.heard
    assert len(appeals.signed) == 1, "equal bytes"
    assert len(appeals.requests) == 1, "and equal requests"


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(books=books, loss=st.sampled_from((0.0, 0.1, 0.2)), index=st.integers(0, 3), at=st.integers(0, 12))
def test_nor_do_loss_and_restarts(books: tuple[list[Fitness], ...], loss: float, index: int, at: int) -> None:
    appeals = Watched(BAD, lying=frozenset({AUDITORS[3].peer}))
    appeals.know(books)
    appeals.watch()
    appeals.decided("accept")
    appeals.quorum.loss = loss
    appeals.appeal(RENTER)
    appeals.run(at)
    appeals.restart(index)
    held = appeals.ruled(300)
    assert held.finding == "wrong" and len(appeals.signed) == 1
    assert len(appeals.signers) >= 3


def test_nobody_who_had_to_do_with_the_claim_is_in_the_order() -> None:
    appeals = Watched(GOOD)
    appeals.decided("accept")
    appeals.candidates |= dict.fromkeys(map(PeerId, (appeals.held.provider, appeals.held.auditor, RENTER.peer)), 10**12)
    appeals.appeal(RENTER)
    court = appeals.quorum.beside[KEYS[1].peer][0]
    assert isinstance(court, Court)
    [called] = court.docket.orders.values()
    assert set(called) == {item.peer for item in AUDITORS}
    appeals.run()
    first = appeals.held.heard
    assert first == called[:3]
    appeals.appeal(RENTER)
    [called] = court.docket.orders.values()
    assert not set(first) & set(called), "nobody sits twice"
