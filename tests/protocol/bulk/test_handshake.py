"""The handshake against people on the path: replay, splice, false names, downgrade, reflection, and its vectors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.bulk import handshake
from protocol.bulk.handshake import Accept, Finish, Met, Open, choose, offers
from protocol.bulk.records import CipherName
from protocol.bulk.tickets import TICKET_US, Ticket
from protocol.errors import LocalError, Unavailable
from protocol.units import Micros, PeerId

_spec = importlib.util.spec_from_file_location("parties", Path(__file__).with_name("parties.py"))
assert _spec is not None
assert _spec.loader is not None
parties = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parties)
ANNA, BERT, EVE, NOW, NETWORK = parties.ANNA, parties.BERT, parties.EVE, parties.NOW, parties.NETWORK
VECTORS = Path(__file__).parents[2] / "vectors" / "bulk.json"


def test_two_peers_meet_with_the_same_keys() -> None:
    table = parties.Table()
    ours, theirs = parties.meet(table.fetcher(table.ticket()), table.holder())
    assert (ours.key_out, ours.key_in) == (theirs.key_in, theirs.key_out)
    assert ours.key_out != ours.key_in
    assert (ours.peer, theirs.peer) == (BERT.peer, ANNA.peer)
    assert theirs.ticket.digests == {parties.DIGEST}
    assert len(table.office) == 0


@pytest.mark.parametrize(("ours", "theirs", "chosen"), [
    (True, True, "aes-128-gcm"), (True, False, "chacha20-poly1305"),
    (False, True, "chacha20-poly1305"), (False, False, "chacha20-poly1305"),
])  # fmt: skip
def test_aes_is_used_where_both_are_fast_at_it(ours: bool, theirs: bool, chosen: CipherName) -> None:
    table = parties.Table()
    met, _ = parties.meet(table.fetcher(table.ticket(), ciphers=offers(ours)), table.holder(has_aes=theirs))
    assert met.cipher == chosen
    assert choose(("aes-128-gcm",), has_aes=False) == "aes-128-gcm"


def test_a_whole_session_that_is_played_again_is_refused() -> None:
    table = parties.Table()
    fetcher, holder = table.fetcher(table.ticket()), table.holder()
    opening = fetcher.open().message
    effects = fetcher.receive(parties.said(holder.receive(opening, NOW)))
    holder.receive(parties.said(effects), NOW)
    with pytest.raises(Unavailable, match="used up"):
        table.holder(ephemeral=21).receive(opening, NOW)


def test_a_finish_does_not_fit_another_session_of_the_same_ticket() -> None:
    """Both sessions reuse the fetcher's ephemeral; the holder's fresh one keeps them apart."""
    table = parties.Table()
    ticket = table.ticket()
    fetcher, first, second = table.fetcher(ticket), table.holder(), table.holder(ephemeral=21)
    accepted = parties.said(first.receive(fetcher.open().message, NOW))
    second.receive(fetcher.open().message, NOW)
    finish = parties.said(fetcher.receive(accepted))
    with pytest.raises(Unavailable, match="signature"):
        second.receive(finish, NOW)
    first.receive(finish, NOW)


def test_a_ticket_opens_one_connection_even_when_two_shake_hands_at_once() -> None:
    table = parties.Table()
    ticket = table.ticket()
    pairs = [(table.fetcher(ticket, ephemeral=10 + n), table.holder(ephemeral=20 + n)) for n in range(2)]
    answers = [parties.said(holder.receive(fetcher.open().message, NOW)) for fetcher, holder in pairs]
    finishes = [parties.said(fetcher.receive(answer)) for (fetcher, _), answer in zip(pairs, answers, strict=True)]
    pairs[0][1].receive(finishes[0], NOW)
    with pytest.raises(Unavailable, match="used up"):
        pairs[1][1].receive(finishes[1], NOW)


def test_sessions_cannot_be_spliced() -> None:
    """Eve gives Anna the answer that Bert gave to another ticket of Anna's."""
    table = parties.Table()
    one, two = table.fetcher(table.ticket(1)), table.fetcher(table.ticket(2), ephemeral=11)
    answer = parties.said(table.holder().receive(two.open().message, NOW))
    with pytest.raises(Unavailable, match="signature"):
        one.receive(answer)


def test_a_ticket_is_of_no_use_to_somebody_else() -> None:
    table = parties.Table()
    ticket = table.ticket()
    thief, holder = table.fetcher(ticket, who=EVE), table.holder()
    answer = parties.said(holder.receive(thief.open().message, NOW))
    with pytest.raises(Unavailable, match="signature"):
        thief.receive(answer)
    said = wire.decode(answer, wire.decoder(Accept), EVE.peer)
    own = X25519PrivateKey.from_private_bytes(bytes([10]) * 32)
    transcript = handshake.transcript(
        NETWORK, (ANNA.peer, BERT.peer), thief.open().message, said.ephemeral, said.cipher
    )
    keys = handshake.derive(own, said.ephemeral, ticket.secret, transcript)
    sealed = handshake._seal(transcript, said)
    forged = Finish(
        EVE.sign(wire.signing_bytes(NETWORK, "bulk-finish", sealed)), handshake.proof(keys.proof_fetcher, sealed)
    )
    with pytest.raises(Unavailable, match="signature"):
        holder.receive(wire.encode(forged), NOW)
    assert len(table.office) == 1, "a thief does not use the ticket up"


def test_somebody_else_cannot_answer_for_the_holder() -> None:
    table = parties.Table()
    fetcher = table.fetcher(table.ticket())
    with pytest.raises(Unavailable, match="signature"):
        fetcher.receive(parties.said(table.holder(who=EVE).receive(fetcher.open().message, NOW)))


def test_who_does_not_know_the_secret_gets_nowhere() -> None:
    table = parties.Table()
    ticket = table.ticket()
    fetcher = table.fetcher(ticket)
    guess = Ticket(b"?" * 32, ANNA.peer, frozenset(), Micros(NOW + 1))
    table.office._open[ticket.id] = guess
    with pytest.raises(Unavailable, match="same keys"):
        holder = table.holder()
        answer = wire.decode(parties.said(holder.receive(fetcher.open().message, NOW)), wire.decoder(Accept), BERT.peer)
        fetcher.receive(wire.encode(answer))


def test_taking_offers_away_on_the_path_is_found() -> None:
    table = parties.Table()
    fetcher = table.fetcher(table.ticket())
    opening = wire.decode(fetcher.open().message, wire.decoder(Open), ANNA.peer)
    weaker = wire.encode(msgspec.structs.replace(opening, ciphers=("chacha20-poly1305",)))
    with pytest.raises(Unavailable, match="signature"):
        fetcher.receive(parties.said(table.holder().receive(weaker, NOW)))


def test_another_cipher_in_the_answer_is_found() -> None:
    table = parties.Table()
    for ciphers, why in ((offers(True), "signature"), (("aes-128-gcm",), "not offered")):
        fetcher = table.fetcher(table.ticket(len(ciphers)), ciphers=ciphers)
        answer = wire.decode(
            parties.said(table.holder().receive(fetcher.open().message, NOW)), wire.decoder(Accept), BERT.peer
        )
        with pytest.raises(Unavailable, match=why):
            fetcher.receive(wire.encode(msgspec.structs.replace(answer, cipher="chacha20-poly1305")))


def test_messages_that_come_back_to_their_sender_are_refused() -> None:
    table = parties.Table()
    fetcher, holder = table.fetcher(table.ticket()), table.holder()
    with pytest.raises(Unavailable, match="malformed"):
        table.fetcher(table.ticket(2)).receive(fetcher.open().message)
    answer = parties.said(holder.receive(fetcher.open().message, NOW))
    with pytest.raises(Unavailable, match="malformed"):
        holder.receive(answer, NOW)
    with pytest.raises(Unavailable, match="over"):
        holder.receive(answer, NOW)


def test_another_network_never_meets() -> None:
    table = parties.Table()
    fetcher = table.fetcher(table.ticket())
    with pytest.raises(Unavailable, match="signature"):
        fetcher.receive(parties.said(table.holder(network="lagoon").receive(fetcher.open().message, NOW)))


def test_a_degenerate_key_is_refused() -> None:
    table = parties.Table()
    opening = wire.encode(Open(table.ticket().id, bytes(32), offers(True)))
    with pytest.raises(Unavailable, match="degenerate"):
        table.holder().receive(opening, NOW)


def test_a_ticket_that_expires_during_the_handshake_is_refused() -> None:
    table = parties.Table()
    fetcher, holder = table.fetcher(table.ticket()), table.holder()
    finish = parties.said(fetcher.receive(parties.said(holder.receive(fetcher.open().message, NOW))))
    with pytest.raises(Unavailable, match="used up"):
        holder.receive(finish, Micros(NOW + TICKET_US))


@given(st.binary(max_size=600))
def test_rubbish_ends_a_handshake_and_nothing_else(rubbish: bytes) -> None:
    table = parties.Table()
    with pytest.raises(Unavailable):
        table.holder().receive(rubbish, NOW)
    with pytest.raises(Unavailable):
        table.fetcher(table.ticket()).receive(rubbish)


@given(st.integers(0, 2), st.integers(0, 10_000))
def test_a_changed_bit_in_any_message_ends_it(which: int, place: int) -> None:
    table = parties.Table()
    fetcher, holder = table.fetcher(table.ticket()), table.holder()

    def passed(number: int, message: bytes) -> bytes:
        if number != which:
            return message
        bit = place % (len(message) * 8)
        return message[: bit // 8] + bytes([message[bit // 8] ^ 1 << bit % 8]) + message[bit // 8 + 1 :]

    with pytest.raises(Unavailable):
        answer = parties.said(holder.receive(passed(0, fetcher.open().message), NOW))
        finish = parties.said(fetcher.receive(passed(1, answer)))
        holder.receive(passed(2, finish), NOW)


def test_keys_exist_only_at_the_end() -> None:
    table = parties.Table()
    with pytest.raises(LocalError, match="not ended"):
        handshake.met_of([table.fetcher(table.ticket()).open()])


def test_the_published_vectors_are_what_happens() -> None:
    vector = json.loads(VECTORS.read_text())["handshake"]
    table = parties.Table()
    fetcher, holder = table.fetcher(table.ticket()), table.holder()
    opening = fetcher.open().message
    answer = parties.said(holder.receive(opening, NOW))
    effects = fetcher.receive(answer)
    met = handshake.met_of(effects)
    found = {
        "network": NETWORK, "fetcher_seed": ANNA.seed.hex(), "holder_seed": BERT.seed.hex(),
        "ticket_secret": (b"\1" * 32).hex(), "fetcher_ephemeral": (b"\x0a" * 32).hex(),
        "holder_ephemeral": (b"\x14" * 32).hex(), "open": opening.hex(), "accept": answer.hex(),
        "finish": parties.said(effects).hex(), "cipher": met.cipher,
        "key_to_holder": met.key_out.hex(), "key_to_fetcher": met.key_in.hex(),
    }  # fmt: skip
    assert found == vector
    assert isinstance(holder.receive(parties.said(effects), NOW)[0], Met)
    assert PeerId(BERT.peer) == met.peer
