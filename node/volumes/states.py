"""The volumes of this node's renters as they are on its disk, and the keys that open them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct, structs

from node.store import RecordStore
from node.volumes.custody import Guarded
from protocol import wire
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.operations import Key
from protocol.units import Digest, PeerId
from protocol.wire import Signed
from storage import volumes
from storage.volumes import Catalogue, Crate

VOLUME_PREFIX: Final = "volume/"
CRATE_PREFIX: Final = "volume-crate/"
RELEASE_PREFIX: Final = "volume-release/"
OWNER_PREFIX: Final = "volume-owner/"

Place = tuple[PeerId, str]
"""(owner, name)."""

_DIGEST_BYTES: Final = 32


class State(Struct, frozen=True):
    """One volume on disk."""

    owner: Key
    catalogue: Catalogue
    sequence: int = 0
    """Of the newest head that was signed here or found elsewhere."""
    head: Signed | None = None
    """Signed over this catalogue; None: the catalogue has changed since."""
    is_removed: bool = False

    @property
    def place(self) -> Place:
        """Whose it is, and its name."""
        return PeerId(self.owner), self.catalogue.name


@dataclass(slots=True)
class Standing:
    """What is known of a volume's copies since this node started."""

    guarded: dict[int, Guarded] = field(default_factory=dict)
    """By the number of a crate."""
    heads: set[PeerId] = field(default_factory=set)
    """Peers that keep the newest head."""
    due: float = 0.0
    """When to look after it again, seconds of trio's clock."""
    renew_at: float = 0.0
    """When to offer an unchanged head again."""
    problem: str = ""
    """Why it is not as safe as it should be, for its owner."""


_states: Final = wire.decoder(State)
_crates: Final = wire.decoder(Crate)


class States:
    """Volumes by owner and name. `renter`: the key of a renter that this node serves."""

    def __init__(self, records: RecordStore, renter: Callable[[PeerId], Identity | None]) -> None:
        self._records = records
        self._renter = renter
        self._states: dict[Place, State] = {}
        self._standing: dict[Place, Standing] = {}
        for _, value in records.scan(VOLUME_PREFIX):
            state = wire.decode(value, _states, PeerId(bytes(32)), len(value))
            self._states[state.place] = state

    def __iter__(self) -> Iterator[State]:
        return iter(tuple(self._states.values()))

    def owned(self, owner: PeerId) -> list[State]:
        """The volumes of a renter, by name."""
        mine = [state for state in self if state.owner == owner and not state.is_removed]
        return sorted(mine, key=lambda state: state.catalogue.name)

    def known(self, place: Place) -> State | None:
        """A volume, removed or not."""
        return self._states.get(place)

    def get(self, place: Place) -> State:
        """One volume. Refused (`no_such_volume`)."""
        state = self._states.get(place)
        if state is None or state.is_removed:
            owner, name = place
            known = ", ".join(one.catalogue.name for one in self.owned(owner)[:12]) or "none"
            fix = f"Volumes: {known}. `shoal volume create` makes one, `shoal volume recover` finds lost ones."
            raise Refused(f"there is no volume {name!r:.80}", code="no_such_volume", fix=fix)
        return state

    def of(self, place: Place) -> State:
        """A volume that was there, removed or not."""
        return self._states[place]

    def put(self, state: State) -> State:
        """On disk from now on; what no longer is needed of the old state is noted for release."""
        before = self._states.get(state.place)
        for crate in before.catalogue.crates if before else ():
            if all(crate.number != kept.number for kept in state.catalogue.crates):
                self._records.put(_crate_key(RELEASE_PREFIX, state, crate.number), wire.encode(crate))
                self._records.put(_crate_key(CRATE_PREFIX, state, crate.number), None)
        owner, _ = state.place
        self._records.put(f"{VOLUME_PREFIX}{owner.hex()}/{state.catalogue.name}", wire.encode(state))
        self._states[state.place] = state
        return state

    def replace(self, state: State, catalogue: Catalogue, is_removed: bool = False) -> State:
        """Put a changed catalogue: the head has to be signed anew."""
        return self.put(structs.replace(state, catalogue=catalogue, head=None, is_removed=is_removed))

    def standing(self, place: Place) -> Standing:
        """What is known of its copies."""
        return self._standing.setdefault(place, Standing())

    # ── crates ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def pieces(self, state: State, crate: int) -> frozenset[Digest]:
        """What a crate holds; nothing when this node never sealed or opened it."""
        data = self._records.get(_crate_key(CRATE_PREFIX, state, crate)) or b""
        return frozenset(Digest(data[start : start + _DIGEST_BYTES]) for start in range(0, len(data), _DIGEST_BYTES))

    def note(self, state: State, crate: int, pieces: tuple[Digest, ...]) -> None:
        """Remember what a crate holds."""
        self._records.put(_crate_key(CRATE_PREFIX, state, crate), b"".join(pieces))

    def to_release(self) -> list[tuple[str, Crate]]:
        """(key, crate) of what holders still have and nobody needs."""
        found = self._records.scan(RELEASE_PREFIX)
        return [(key, wire.decode(value, _crates, PeerId(bytes(32)), len(value))) for key, value in found]

    def released(self, key: str) -> None:
        """It is gone."""
        self._records.put(key, None)

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def key_of(self, owner: PeerId) -> Identity:
        """The key that a volume's secrets are made of. Refused (`unknown_renter`)."""
        if (seed := self._records.get(OWNER_PREFIX + owner.hex())) is not None:
            return Identity(seed)
        if (identity := self._renter(owner)) is None:
            fix = "Create the renter first, or recover its volumes with its key."
            raise Refused("this node keeps no key for that renter", code="unknown_renter", fix=fix)
        return identity

    def adopt(self, owner: Identity) -> None:
        """Keep a key that was made elsewhere."""
        self._records.put(OWNER_PREFIX + owner.peer.hex(), owner.seed)

    def secret(self, state: State) -> bytes:
        """What opens the volume."""
        return volumes.volume_secret(self.key_of(PeerId(state.owner)), state.catalogue.volume)


def _crate_key(prefix: str, state: State, number: int) -> str:
    return f"{prefix}{state.catalogue.volume.hex()}/{number:010}"
