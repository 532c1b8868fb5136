"""Dossiers and their file as bytes: canonical, bounded, and nothing else is taken for one."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import dossier, dossier_file, wire
from protocol.audit_messages import Reveal, UnitsOpened
from protocol.dossier import DOSSIER_BYTES_MAX, HEARD_MAX, RESULTS_MAX, Dossier, DossierPiece, DossierRequest, Heard
from protocol.dossier_file import FRAME_BYTES_MAX, OpenedClaim, OpenedJob
from protocol.errors import Refused, RemoteViolation
from protocol.proof import Leaf, Opening
from protocol.units import PeerId

NOBODY = PeerId(bytes(32))
ESCROW = b"e" * 32
hashes = st.binary(min_size=32, max_size=32)
leaves = st.builds(
    Leaf,
    index=st.integers(0, 4096),
    state=hashes,
    state_bytes=st.integers(0, 256 << 20),
    input=hashes,
    aux=hashes,
    aux_bytes=st.integers(0, 256 << 20),
)
openings = st.builds(Opening, leaf=leaves, path=st.lists(hashes, max_size=13).map(tuple))
reveals = st.builds(
    Reveal, st.just(ESCROW), st.just(3), st.just(1), hashes, st.integers(0, 2**62), hashes,
    st.lists(openings, max_size=3).map(tuple),
)  # fmt: skip
opened = st.builds(
    UnitsOpened, st.just(ESCROW), st.just(3), st.just(1), st.lists(openings, max_size=3).map(tuple),
    st.binary(max_size=64), st.lists(hashes, max_size=13).map(tuple),
)  # fmt: skip
heard = st.builds(
    Heard, hashes, st.sampled_from(("work", "finish", "check")), hashes, hashes, hashes, st.text(max_size=128),
    st.binary(max_size=100),
)  # fmt: skip
dossiers = st.one_of(
    st.builds(Dossier, st.just(ESCROW), st.just(3), st.just(1), heard=st.lists(heard, max_size=3).map(tuple)),
    st.builds(Dossier, st.just(ESCROW), st.just(3), st.just(1), reveals, opened),
)
files = st.lists(
    st.builds(OpenedClaim, st.integers(0, 4096), st.integers(1, 1000), st.binary(max_size=99), st.text(max_size=20)),
    max_size=4,
)


@given(dossiers)
def test_a_dossier_is_what_it_was(made: Dossier) -> None:
    assert dossier.decode(wire.encode(made), NOBODY) == made


@given(dossiers, st.data())
def test_a_changed_byte_is_another_dossier_or_none(made: Dossier, data: st.DataObject) -> None:
    body = bytearray(wire.encode(made))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert dossier.decode(bytes(body), NOBODY) != made
    except RemoteViolation as error:
        assert error.code in ("malformed", "not_canonical", "wrong_place")


def test_parts_about_another_claim_and_too_much_of_anything_are_refused() -> None:
    reveal = Reveal(ESCROW, 4, 1, bytes(32), 0, bytes(32))
    with pytest.raises(RemoteViolation, match="another claim"):
        dossier.decode(wire.encode(Dossier(ESCROW, 3, 1, reveal=reveal)), NOBODY)
    one = Heard(bytes(32), "work", bytes(32), bytes(32), bytes(32), "ok")
    for bad in (
        Dossier(ESCROW, 3, 1, heard=(one,) * (HEARD_MAX + 1)),
        Dossier(ESCROW, 3, 1, heard=(Heard(bytes(32), "work", bytes(32), bytes(32), bytes(32), "ok", bytes(1 << 17)),)),
        Dossier(ESCROW, 4097, 1),
        Dossier(ESCROW[:31], 3, 1),
    ):
        with pytest.raises(RemoteViolation) as caught:
            dossier.decode(wire.encode(bad), NOBODY)
        assert caught.value.code == "malformed"
    with pytest.raises(RemoteViolation) as caught:
        dossier.decode(bytes(DOSSIER_BYTES_MAX + 1), NOBODY)
    assert caught.value.code == "over_limit"


def test_what_a_judge_may_keep_fits_and_a_piece_of_it_fits_a_message() -> None:
    long = Opening(Leaf(4096, bytes(32), 2**28, bytes(32), bytes(32), 2**28), (bytes(32),) * 13)
    reveal = Reveal(ESCROW, 3, 1, bytes(32), 2**62, bytes(32), (long,) * 65)
    units = UnitsOpened(ESCROW, 3, 1, (long,) * 64, bytes(8192), (bytes(32),) * 13)
    one = Heard(bytes(32), "work", bytes(32), bytes(32), bytes(32), "ok", bytes(RESULTS_MAX))
    whole = wire.encode(Dossier(ESCROW, 3, 1, reveal, units, (one,) * 12))
    assert len(whole) < DOSSIER_BYTES_MAX - (512 << 10), "and there is room for half a MiB of beacon"
    piece = DossierPiece(DOSSIER_BYTES_MAX, bytes(dossier.PIECE_BYTES))
    assert len(wire.encode(piece)) <= wire.MESSAGE_BYTES_MAX
    assert wire.decode(wire.encode(piece), wire.decoder(DossierPiece), NOBODY) == piece
    asked = DossierRequest(ESCROW, 3, 1, DOSSIER_BYTES_MAX)
    assert wire.decode(wire.encode(asked), wire.decoder(DossierRequest), NOBODY) == asked


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────
HEAD = OpenedJob("test", ESCROW, b"spec")


def written(claims: list[OpenedClaim]) -> bytes:
    return dossier_file.frame(HEAD) + b"".join(dossier_file.frame(item) for item in claims)


def read(data: bytes) -> Iterator[OpenedJob | OpenedClaim]:
    return dossier_file.frames(io.BytesIO(data).read)


@given(files)
def test_a_file_is_what_it_was(claims: list[OpenedClaim]) -> None:
    data = written(claims)
    assert list(read(data)) == [HEAD, *claims]


@given(files, st.data())
def test_a_file_that_is_cut_says_so_or_has_fewer_claims(claims: list[OpenedClaim], data: st.DataObject) -> None:
    whole = written(claims)
    try:
        found = list(read(whole[: data.draw(st.integers(0, len(whole) - 1))]))
    except Refused as error:
        assert error.code == "not_a_units_file" and error.fix
    else:
        assert len(found) <= len(claims) and found == [HEAD, *claims][: len(found)]


@given(st.binary(max_size=200))
def test_any_bytes_are_no_file(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        list(read(data))
    assert caught.value.code == "not_a_units_file"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\0\0\0", "frame 0 says that it has 0 bytes"),
        ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), f"{FRAME_BYTES_MAX} are the most"),
        (b"\0\0\0\5abc", "ends in frame 0, after 3 of 5 bytes"),
        (dossier_file.frame(OpenedClaim(1, 1)), "frame 0 is that of a claim"),
        (dossier_file.frame(HEAD) * 2, "frame 1 is that of a job"),
        (b"\0\0\0\1\x80", "frame 0: "),
    ],
)
def test_what_is_wrong_is_named(data: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words):
        list(read(data))
