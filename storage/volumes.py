"""Network volumes: what one is, who may change it, how its records are kept by strangers. Spec: specs/29-volumes.md.

A volume belongs to a renter's key. Its *catalogue* (versions, snapshots, crates) is encrypted; its *head* is a small
signed record that names the newest catalogue. Holders keep both and refuse to go back to an older head.
"""

from __future__ import annotations

from typing import Annotated, Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct, structs

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.jobspec import Bytes32, Name, NonNegative
from protocol.operations import Key
from protocol.snapshots import Pack
from protocol.units import DAY, KIB, Digest, Micros, PeerId
from protocol.wire import Signed

VERSIONS_MAX: Final = 256
"""Versions that a volume remembers; older ones that no snapshot names are dropped first."""

KEPT_VERSIONS: Final = 8
"""Newest versions that are kept without a snapshot."""

SNAPSHOTS_MAX: Final = 64
"""Named versions of one volume."""

CRATES_MAX: Final = 512
"""Sealed sets of pieces of one volume; a version is spread over those that first had its pieces."""

PACKS_PER_CRATE: Final = 16
"""Packs of one crate: 4 GiB."""

HOLDERS_MAX: Final = 256
"""Holders that a catalogue names."""

CATALOGUE_BYTES_MAX: Final = 1024 * KIB
"""An encrypted catalogue: 512 crates of two packs with 20 shards each."""

HEADS_PER_OWNER: Final = 64
"""Volumes of one renter that a holder keeps heads of."""

HEADS_MAX: Final = 1024
"""Heads that a holder keeps for everybody; their catalogues are at most 1 GiB."""

HEAD_LIFE: Final = Micros(90 * DAY)
"""A head that nobody has offered again for so long is forgotten: the owner's node does it every day."""

_CATALOGUE_KEY: Final = "shoal/1 volume catalogue 2026"
_CATALOGUE_SALT: Final = "shoal/1 volume catalogue salt 2026"
_VOLUME_CONTEXT: Final = "shoal/1 volume 2026"
_CRATE_PLACE: Final = "shoal/1 volume crate 2026"
_NONCE: Final = bytes(12)
_SALT_BYTES: Final = 32

VolumeId = Annotated[bytes, Meta(min_length=16, max_length=16)]


class Version(Struct, frozen=True, forbid_unknown_fields=True):
    """One immutable state of a volume."""

    number: Annotated[int, Meta(ge=1, le=2**31)]
    """Counts up; a number is never used twice."""
    made: NonNegative
    """µs of wall time."""
    tree: Bytes32
    """Digest of the tree's list."""
    tree_bytes: NonNegative
    size: NonNegative
    """Bytes of all files."""
    entries: NonNegative
    crates: Annotated[tuple[Annotated[int, Meta(ge=1, le=2**31)], ...], Meta(max_length=CRATES_MAX)]
    """Numbers of the crates that hold the list and the pieces."""


class Crate(Struct, frozen=True, forbid_unknown_fields=True):
    """Pieces that were sealed together: erasure-coded ciphertext at holders."""

    number: Annotated[int, Meta(ge=1, le=2**31)]
    place: Bytes32
    """What its keys are made of beside the volume's secret: depends on the content, so that no key is used twice."""
    packs: Annotated[tuple[Pack, ...], Meta(min_length=1, max_length=PACKS_PER_CRATE)]
    index_bytes: NonNegative


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True, tag="catalogue"):
    """Everything about a volume but its content. Encrypted wherever it leaves its owner's node."""

    volume: VolumeId
    name: Name
    created: NonNegative
    next_version: Annotated[int, Meta(ge=1, le=2**31)] = 1
    next_crate: Annotated[int, Meta(ge=1, le=2**31)] = 1
    versions: Annotated[tuple[Version, ...], Meta(max_length=VERSIONS_MAX)] = ()
    crates: Annotated[tuple[Crate, ...], Meta(max_length=CRATES_MAX)] = ()
    snapshots: Annotated[
        tuple[tuple[Name, Annotated[int, Meta(ge=1, le=2**31)]], ...], Meta(max_length=SNAPSHOTS_MAX)
    ] = ()
    """(name, version), sorted by name."""
    holders: Annotated[tuple[Key, ...], Meta(max_length=HOLDERS_MAX)] = ()
    """Peers that gave a receipt for some shard: whom to ask first."""


class Head(Struct, frozen=True, forbid_unknown_fields=True, tag="volume_head"):
    """The newest state of a volume, signed by its owner (kind `volume`)."""

    volume: VolumeId
    sequence: Annotated[int, Meta(ge=1, le=2**62)]
    changed: NonNegative
    catalogue: Bytes32
    """Digest of the encrypted catalogue; zeros: the volume was removed."""
    catalogue_bytes: Annotated[int, Meta(ge=0, le=CATALOGUE_BYTES_MAX)]

    @property
    def is_removed(self) -> bool:
        """Whether nothing is left but the word that it is gone."""
        return not self.catalogue_bytes


_catalogue_decoder: Final = wire.decoder(Catalogue)
head_decoder: Final = wire.decoder(Head)


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def volume_id(owner: PeerId, name: str) -> bytes:
    """16 bytes; the same owner and name are the same volume at every node."""
    return blake3(b"shoal/1\0volume\0" + owner + name.encode()).digest(length=16)


def volume_secret(owner: Identity, volume: bytes) -> bytes:
    """32 bytes that open everything of one volume; only the owner's key gives them."""
    return blake3(owner.seed + volume, derive_key_context=_VOLUME_CONTEXT).digest()


def crate_place(volume: bytes, number: int, pieces: tuple[Digest, ...]) -> bytes:
    """The place of a crate. Another content has another place, even where a crash lets a number be used again."""
    content = blake3(b"".join(pieces)).digest()
    return blake3(volume + number.to_bytes(8, "big") + content, derive_key_context=_CRATE_PLACE).digest()


def seal_catalogue(catalogue: Catalogue, secret: bytes) -> bytes:
    """Encrypted under a key that depends on the content, so that no nonce is ever used for two contents."""
    plain = wire.encode(catalogue)
    salt = blake3(plain, key=blake3(secret, derive_key_context=_CATALOGUE_SALT).digest()).digest()
    sealed = salt + AESGCM(_catalogue_key(secret, salt)).encrypt(_NONCE, plain, catalogue.volume)
    if len(sealed) > CATALOGUE_BYTES_MAX:
        raise Refused(
            f"the volume's catalogue has {len(sealed)} bytes, {CATALOGUE_BYTES_MAX} are allowed",
            code="over_limit",
            fix="Remove snapshots that nobody needs, or begin a new volume.",
            numbers={"found": len(sealed), "limit": CATALOGUE_BYTES_MAX},
        )
    return sealed


def open_catalogue(sealed: bytes, secret: bytes, volume: bytes) -> Catalogue:
    """The inverse. Refused (`volume_damaged`) when it is not what the owner wrote."""
    salt = sealed[:_SALT_BYTES]
    try:
        plain = AESGCM(_catalogue_key(secret, salt)).decrypt(_NONCE, sealed[_SALT_BYTES:], volume)
        catalogue = wire.decode(plain, _catalogue_decoder, PeerId(bytes(32)), CATALOGUE_BYTES_MAX)
    except (InvalidTag, ValueError, RemoteViolation) as error:
        fix = "Use the key that the volume was made with; another holder may have a good copy."
        raise Refused("the volume's catalogue cannot be opened", code="volume_damaged", fix=fix) from error
    if catalogue.volume != volume:
        raise Refused("the catalogue is of another volume", code="volume_damaged")
    return catalogue


def _catalogue_key(secret: bytes, salt: bytes) -> bytes:
    return blake3(secret + salt, derive_key_context=_CATALOGUE_KEY).digest()


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def newest(catalogue: Catalogue) -> Version | None:
    """The current version; None before the first."""
    return catalogue.versions[-1] if catalogue.versions else None


def version_of(catalogue: Catalogue, which: str) -> Version:
    """A version by its number, a snapshot's name, or '' = the newest. Refused (`no_such_version`)."""
    named = dict(catalogue.snapshots)
    wanted = named.get(which, int(which) if which.isascii() and which.isdecimal() else 0)
    found = newest(catalogue) if not which else next((v for v in catalogue.versions if v.number == wanted), None)
    if found is None:
        known = [*named, *(str(version.number) for version in catalogue.versions)]
        fix = f"It has {', '.join(known[:12])}." if known else "It is empty: put something into it first."
        detail = f"the volume {catalogue.name} has no version {which!r:.80}" if which else f"{catalogue.name} is empty"
        raise Refused(detail, code="no_such_version", fix=fix)
    return found


def emptied(catalogue: Catalogue, now: Micros) -> Catalogue:
    """A volume without content. Its numbers go on: none is ever used twice."""
    volume, name = catalogue.volume, catalogue.name
    return Catalogue(volume, name, now, catalogue.next_version, catalogue.next_crate)


def with_version(catalogue: Catalogue, version: Version) -> Catalogue:
    """The catalogue with one more version, whose crates are still to be made; what is not needed now is dropped."""
    versions = (*catalogue.versions, version)
    return trimmed(structs.replace(catalogue, versions=versions, next_version=version.number + 1))


def with_crates(catalogue: Catalogue, number: int, earlier: tuple[int, ...], made: tuple[Crate, ...]) -> Catalogue:
    """The catalogue after a version was sealed: part of it lies in earlier crates, the rest in those made for it."""
    crates = tuple(sorted({*earlier, *(crate.number for crate in made)}))
    versions = tuple(
        structs.replace(version, crates=crates) if version.number == number else version
        for version in catalogue.versions
    )
    following = max((catalogue.next_crate, *(crate.number + 1 for crate in made)))
    return trimmed(
        structs.replace(catalogue, versions=versions, crates=(*catalogue.crates, *made), next_crate=following)
    )


def with_snapshot(catalogue: Catalogue, name: str, number: int) -> Catalogue:
    """The catalogue with a name for a version. Refused (`snapshot_exists`, `over_limit`)."""
    named = dict(catalogue.snapshots)
    if named.get(name, number) != number:
        raise Refused(
            f"{name} names version {named[name]} already",
            code="snapshot_exists",
            fix="Choose another name, or remove that snapshot first.",
            numbers={"version": named[name]},
        )
    if name.isdecimal():
        raise Refused(f"{name!r} is a version's number", code="bad_name", fix="Begin a snapshot's name with a letter.")
    if len(named) >= SNAPSHOTS_MAX and name not in named:
        fix = "Remove one first."
        raise Refused(f"a volume has at most {SNAPSHOTS_MAX} snapshots", code="over_limit", fix=fix)
    return structs.replace(catalogue, snapshots=tuple(sorted({**named, name: number}.items())))


def without_snapshot(catalogue: Catalogue, name: str) -> Catalogue:
    """The catalogue without a name. Refused (`no_such_snapshot`)."""
    if name not in dict(catalogue.snapshots):
        known = ", ".join(known for known, _ in catalogue.snapshots[:12]) or "none"
        raise Refused(f"there is no snapshot {name!r:.80}", code="no_such_snapshot", fix=f"Snapshots: {known}.")
    left = tuple(pair for pair in catalogue.snapshots if pair[0] != name)
    return trimmed(structs.replace(catalogue, snapshots=left))


def trimmed(catalogue: Catalogue) -> Catalogue:
    """Without versions that are neither new nor named, and without crates that no version needs."""
    named = {number for _, number in catalogue.snapshots}
    recent = {version.number for version in catalogue.versions[-KEPT_VERSIONS:]}
    versions = tuple(version for version in catalogue.versions if version.number in named | recent)
    needed = {number for version in versions for number in version.crates}
    crates = tuple(crate for crate in catalogue.crates if crate.number in needed)
    return structs.replace(catalogue, versions=versions, crates=crates)


def shards(catalogue: Catalogue) -> tuple[Digest, ...]:
    """Every shard of every crate, each once."""
    packs = [pack for crate in catalogue.crates for pack in crate.packs]
    return tuple(dict.fromkeys(Digest(shard) for pack in packs for shard in pack.shards))


# ── heads at a holder ────────────────────────────────────────────────────────────────────────────────────────────────
class HeadBook:
    """The heads that one holder keeps for others: only forward, bounded per owner and in all."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._heads: dict[tuple[PeerId, bytes], tuple[Signed, Head, Micros]] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def offer(self, sender: PeerId, statement: Signed, now: Micros) -> Head | None:
        """The head, when it is news and has been taken; None when exactly this one is known (its time begins again).

        RemoteViolation: it is not what its signer signed. Refused: `stale_head` (with both numbers), `head_forked`,
        `too_many_heads`. A refused head changes nothing."""
        head, is_news = self.require(sender, statement)
        self._heads[PeerId(statement.signer), head.volume] = (statement, head, now)
        return head if is_news else None

    def require(self, sender: PeerId, statement: Signed) -> tuple[Head, bool]:
        """What `offer` would take, and whether it is news; raises what `offer` would."""
        head = wire.open_signed(statement, self._network, "volume", head_decoder, sender)
        place = PeerId(statement.signer), head.volume
        known = self._heads.get(place)
        if known is not None and head.sequence <= known[1].sequence:
            if statement.body == known[0].body:
                return known[1], False
            raise _older(head, known[1])
        if known is None:
            self._require_room(place[0])
        return head, True

    def of(self, owner: PeerId) -> tuple[Signed, ...]:
        """All heads of one owner, sorted by volume."""
        mine = [(volume, item[0]) for (peer, volume), item in self._heads.items() if peer == owner]
        return tuple(statement for _, statement in sorted(mine, key=lambda pair: pair[0]))

    def catalogue_of(self, owner: PeerId, volume: bytes) -> Digest | None:
        """The catalogue that is kept for a volume now."""
        known = self._heads.get((owner, volume))
        return Digest(known[1].catalogue) if known is not None and not known[1].is_removed else None

    def expired(self, now: Micros) -> tuple[tuple[PeerId, Head], ...]:
        """Forget what nobody offered for `HEAD_LIFE`; what was forgotten, with its owner."""
        late = [place for place, (_, _, seen) in self._heads.items() if seen + HEAD_LIFE <= now]
        return tuple((place[0], self._heads.pop(place)[1]) for place in late)

    def _require_room(self, owner: PeerId) -> None:
        mine = sum(1 for peer, _ in self._heads if peer == owner)
        if mine >= HEADS_PER_OWNER or len(self._heads) >= HEADS_MAX:
            limit = HEADS_PER_OWNER if mine >= HEADS_PER_OWNER else HEADS_MAX
            raise Refused(f"{limit} heads are kept here", code="too_many_heads", numbers={"limit": limit})


def _older(head: Head, known: Head) -> Refused:
    numbers: dict[str, int | str] = {"known": known.sequence, "offered": head.sequence}
    if head.sequence == known.sequence:
        detail = f"two different heads have sequence {head.sequence}"
        fix = "Recover the volume first, then change it: it was changed elsewhere with the same key."
        return Refused(detail, code="head_forked", fix=fix, numbers=numbers)
    detail = f"head {head.sequence} is older than head {known.sequence}, which is known"
    fix = "Recover the volume: a newer state of it exists."
    return Refused(detail, code="stale_head", fix=fix, numbers=numbers)
