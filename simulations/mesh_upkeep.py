"""Who joins and leaves the meshes, and when: upkeep by heartbeat, GRAFT and PRUNE.

Two rules: `EagerUpkeep` is what py-libp2p 0.8.1 does with the node's settings, `SpecUpkeep` the specification v1.1.
"""

from __future__ import annotations

from random import Random
from statistics import median
from typing import NamedTuple, Protocol

from simulations.gossip_params import SECOND, GossipParams
from simulations.mesh import MULTIPLIER, WORD, Mesh
from simulations.overlay import Overlay
from simulations.scores import Scores


class Control(NamedTuple):
    """What a peer tells a neighbour about meshes: topics by index."""

    target: int
    grafts: tuple[int, ...]
    prunes: tuple[int, ...]


class Upkeep(Protocol):
    """The rules by which meshes change."""

    meshes: list[list[Mesh]]
    """By topic, then by peer."""

    def beat(self, peer: int, now: int) -> list[Control]:
        """A heartbeat: change the peer's meshes, return what it tells its neighbours."""
        ...

    def linked(self, peer: int, other: int, now: int) -> tuple[int, ...]:
        """A neighbour has come: the topics for which it is grafted at once."""
        ...

    def grafted(self, peer: int, sender: int, topic: int, now: int) -> bool:
        """GRAFT came. False: answer with PRUNE."""
        ...

    def pruned(self, peer: int, sender: int, topic: int, now: int) -> None:
        """PRUNE came."""
        ...


class EagerUpkeep:
    """py-libp2p 0.8.1, gossipsub.py.

    With `grafts_eagerly`, as it comes: each heartbeat grafts the two best candidates as long as there are any whose
    score is not below half the median; with equal scores that is everybody, so meshes grow until `high` is exceeded and
    are then cut to `degree`. Whoever
    prunes by heartbeat does not remember it, and asks again; whoever was pruned refuses for `backoff`. Ties are broken
    by the order of hash tables, which differs between processes and stays the same within one.
    """

    __slots__ = ("_overlay", "_params", "_random", "_scores", "meshes")

    def __init__(self, params: GossipParams, overlay: Overlay, scores: Scores, random: Random) -> None:
        self._params = params
        self._overlay = overlay
        self._scores = scores
        self._random = random
        self.meshes: list[list[Mesh]] = [[] for _ in params.topics]

    def beat(self, peer: int, now: int) -> list[Control]:
        """mesh_heartbeat, _emit_control_msgs and _maintain_mesh_quality."""
        low, high = self._params.low, self._params.high
        links = self._overlay.links[peer]
        table = self._scores.tables[peer]
        grafts: dict[int, list[int]] = {}
        prunes: dict[int, list[int]] = {}
        replaced: list[Control] = []
        for topic, meshes in enumerate(self.meshes):
            mesh = meshes[peer]
            size = len(mesh.members)
            pool = mesh.pool(links, now)
            if pool:
                if size < low:
                    chosen = sample(pool, self._params.degree - size, self._random)
                elif self._params.grafts_eagerly:
                    chosen = self._best_two(peer, mesh, pool, now) if table else pool[:2]
                else:
                    chosen = []
                for other in chosen:
                    mesh.add(other)
                    grafts.setdefault(other, []).append(topic)
            if size > high:
                for other in self._worst(peer, mesh, size - self._params.degree, now):
                    mesh.remove(other)
                    prunes.setdefault(other, []).append(topic)
            if table:
                replaced += self._replaced(peer, topic, mesh, links, now)
        return _packed(grafts, prunes) + replaced if grafts or prunes else replaced

    def linked(self, peer: int, other: int, now: int) -> tuple[int, ...]:
        """on_peer_subscribed: a mesh below `low` takes the newcomer at once."""
        chosen: list[int] = []
        for topic, meshes in enumerate(self.meshes):
            mesh = meshes[peer]
            if len(mesh.members) < self._params.low and other not in mesh.members and not mesh.is_held_off(other, now):
                mesh.add(other)
                chosen.append(topic)
        return tuple(chosen)

    def grafted(self, peer: int, sender: int, topic: int, now: int) -> bool:
        """handle_graft: there is no upper bound, but a memory for PRUNEs."""
        params, mesh = self._params, self.meshes[topic][peer]
        if sender in mesh.pruned_at and now - mesh.pruned_at[sender] < min(params.flood, params.backoff):
            self._scores.misbehaved(peer, sender, 10.0, now)
            return False
        if self._scores.tables[peer] and self._scores.value(peer, sender, now) < params.weights.graylist_threshold:
            return False
        if mesh.is_held_off(sender, now):
            mesh.hold_off(sender, _whole(now) + params.backoff)
            return False
        if sender not in mesh.members:
            mesh.add(sender)
        return True

    def pruned(self, peer: int, sender: int, topic: int, now: int) -> None:
        """handle_prune."""
        mesh = self.meshes[topic][peer]
        mesh.hold_off(sender, _whole(now) + self._params.backoff)
        mesh.remove(sender)
        mesh.pruned_at[sender] = now

    def _best_two(self, peer: int, mesh: Mesh, pool: list[int], now: int) -> list[int]:
        """_perform_opportunistic_grafting."""
        value = self._scores.value
        scores = [value(peer, other, now) for other in mesh.members]
        threshold = max(median(scores) * 0.5, min(scores) * 1.1, self._params.weights.gossip_threshold)
        candidates = [(value(peer, other, now), other) for other in pool]
        candidates = [each for each in candidates if each[0] >= threshold]
        candidates.sort(key=lambda each: -each[0])
        return [other for _, other in candidates[:2]]

    def _worst(self, peer: int, mesh: Mesh, count: int, now: int) -> list[int]:
        """_select_peers_for_pruning: lowest score first, ties in the order of a hash table that is the peer's own."""
        salt = (2 * peer + 1) * MULTIPLIER & WORD
        order = sorted(mesh.members, key=lambda other: (other + 1) * salt >> 7 & 0xFFFFFF)
        if self._scores.tables[peer]:
            order.sort(key=lambda other: self._scores.value(peer, other, now))
        return order[:count]

    def _replaced(self, peer: int, topic: int, mesh: Mesh, links: list[int], now: int) -> list[Control]:
        """_consider_peer_replacement: the worst member gives way to a neighbour that is better by more than 0.1."""
        if len(mesh.members) < self._params.degree:
            return []
        value = self._scores.value
        worst = min(mesh.members, key=lambda other: value(peer, other, now))
        best, best_value = -1, value(peer, worst, now)
        for other in mesh.pool(links, now):
            if value(peer, other, now) > best_value + 0.1:
                best, best_value = other, value(peer, other, now)
        if best < 0:
            return []
        mesh.remove(worst)
        mesh.add(best)
        mesh.hold_off(worst, _whole(now) + self._params.backoff)
        mesh.pruned_at[worst] = now
        return [Control(worst, (), (topic,)), Control(best, (topic,), ())]


class SpecUpkeep:
    """GossipSub v1.1 as the specification has it: bounds, negative scores out, back-off on both sides."""

    __slots__ = ("_beats", "_overlay", "_params", "_random", "_scores", "meshes")

    def __init__(self, params: GossipParams, overlay: Overlay, scores: Scores, random: Random) -> None:
        self._params = params
        self._overlay = overlay
        self._scores = scores
        self._random = random
        self._beats: dict[int, int] = {}
        self.meshes: list[list[Mesh]] = [[] for _ in params.topics]

    def beat(self, peer: int, now: int) -> list[Control]:
        """Heartbeat of the specification, mesh part."""
        params = self._params
        grafts: dict[int, list[int]] = {}
        prunes: dict[int, list[int]] = {}
        is_scored = bool(self._scores.tables[peer]) or params.weights.colocated > 0
        is_tick = is_scored and self._is_tick(peer)
        for topic, meshes in enumerate(self.meshes):
            mesh = meshes[peer]
            size = len(mesh.members)
            if not is_scored and params.low <= size <= params.high:
                continue
            if is_scored:
                for other in [each for each in mesh.members if self._scores.value(peer, each, now) < 0]:
                    self._drop(peer, other, topic, now)
                    prunes.setdefault(other, []).append(topic)
            for other in self._wanted(peer, mesh, is_tick, now):
                self._take(peer, other, topic, now)
                grafts.setdefault(other, []).append(topic)
            if len(mesh.members) > params.high:
                for other in self._surplus(peer, mesh, now):
                    self._drop(peer, other, topic, now)
                    prunes.setdefault(other, []).append(topic)
        return [
            Control(other, tuple(grafts.get(other, ())), tuple(prunes.get(other, ()))) for other in {**grafts, **prunes}
        ]

    def linked(self, peer: int, other: int, now: int) -> tuple[int, ...]:
        """Newcomers wait for the heartbeat, unless meshes that are too small take them at once."""
        if not self._params.grafts_at_once or self._scores.value(peer, other, now) < 0:
            return ()
        chosen: list[int] = []
        for topic, meshes in enumerate(self.meshes):
            mesh = meshes[peer]
            if len(mesh.members) < self._params.low and other not in mesh.members and not mesh.is_held_off(other, now):
                self._take(peer, other, topic, now)
                chosen.append(topic)
        return tuple(chosen)

    def grafted(self, peer: int, sender: int, topic: int, now: int) -> bool:
        """Refused during back-off (a fault), with a negative score, and by a full mesh unless we dialled the sender."""
        params, mesh = self._params, self.meshes[topic][peer]
        if sender in mesh.members:
            return True
        if mesh.is_held_off(sender, now):
            is_flood = sender in mesh.pruned_at and now - mesh.pruned_at[sender] < params.flood
            self._scores.misbehaved(peer, sender, 2.0 if is_flood else 1.0, now)
        elif self._scores.value(peer, sender, now) >= 0 and (
            len(mesh.members) < params.high or sender in self._overlay.dialled[peer]
        ):
            self._take(peer, sender, topic, now)
            return True
        mesh.hold_off(sender, now + params.backoff)
        return False

    def pruned(self, peer: int, sender: int, topic: int, now: int) -> None:
        """The sender is out, for its back-off."""
        mesh = self.meshes[topic][peer]
        if mesh.remove(sender):
            self._scores.left(peer, sender, topic, now)
        mesh.hold_off(sender, now + self._params.backoff)

    def _take(self, peer: int, other: int, topic: int, now: int) -> None:
        self.meshes[topic][peer].add(other)
        self._scores.entered(peer, other, topic, now)

    def _drop(self, peer: int, other: int, topic: int, now: int) -> None:
        mesh = self.meshes[topic][peer]
        mesh.remove(other)
        mesh.hold_off(other, now + self._params.backoff)
        mesh.pruned_at[other] = now
        self._scores.left(peer, other, topic, now)

    def _is_tick(self, peer: int) -> bool:
        beats = self._beats[peer] = self._beats.get(peer, 0) + 1
        return beats % self._params.weights.graft_ticks == 0

    def _wanted(self, peer: int, mesh: Mesh, is_tick: bool, now: int) -> list[int]:
        """Up to `degree` when below `low`, and two better ones when the median is poor (opportunistic grafting)."""
        params, members, value = self._params, mesh.members, self._scores.value
        links = self._overlay.links[peer]
        if len(members) < params.low:
            pool = [other for other in mesh.pool(links, now) if value(peer, other, now) >= 0]
            return sample(pool, params.degree - len(members), self._random)
        if is_tick and members:
            middle = median([value(peer, other, now) for other in members])
            if middle < params.weights.graft_median:
                pool = [other for other in mesh.pool(links, now) if value(peer, other, now) > middle]
                return sample(pool, 2, self._random)
        return []

    def _surplus(self, peer: int, mesh: Mesh, now: int) -> list[int]:
        """All but the best by score, some by lot, and among both enough that the peer dialled itself."""
        params = self._params
        order = sample(mesh.members, len(mesh.members), self._random)
        order.sort(key=lambda other: -self._scores.value(peer, other, now))
        rest = order[params.kept_by_score :]
        order[params.kept_by_score :] = sample(rest, len(rest), self._random)
        dialled = self._overlay.dialled[peer]
        kept, out = order[: params.degree], order[params.degree :]
        lacking = params.outbound - sum(1 for other in kept if other in dialled)
        for other in [each for each in out if each in dialled][: max(0, lacking)]:
            loser = next((each for each in reversed(kept) if each not in dialled), None)
            if loser is None:
                break
            kept[kept.index(loser)] = other
            out[out.index(other)] = loser
        return out


def sample(pool: list[int], wanted: int, random: Random) -> list[int]:
    """`wanted` different members of the pool in random order, or all of them."""
    left = pool[:]
    count = len(left)
    wanted = max(0, min(wanted, count))
    for place in range(wanted):
        other = place + int(random.random() * (count - place))
        left[place], left[other] = left[other], left[place]
    return left[:wanted]


def _packed(grafts: dict[int, list[int]], prunes: dict[int, list[int]]) -> list[Control]:
    """As _emit_control_msgs of 0.8.1: its list of GRAFTs is not emptied between peers, nor is that of PRUNEs with them.

    The second peer to be grafted is thus also grafted for what the first one was, on its side only.
    """
    controls: list[Control] = []
    all_grafts: list[int] = []
    all_prunes: list[int] = []
    for other, topics in grafts.items():
        all_grafts += topics
        all_prunes += prunes.pop(other, ())
        controls.append(Control(other, tuple(all_grafts), tuple(all_prunes)))
    controls.extend(Control(other, (), tuple(topics)) for other, topics in prunes.items())
    return controls


def _whole(now: int) -> int:
    """libp2p 0.8.1 counts back-off in whole seconds."""
    return now - now % SECOND
