"""What an attack costs, what it brings, and how long nobody notices: one account per strategy of the scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protocol import overturned
from protocol.credits import credits_text
from protocol.effects import Effect
from protocol.messages import Receipts
from protocol.operations import Assign, Fence, Operation, Settle, Verdict, commission, slash
from protocol.ranking import standing_record
from protocol.reputation import score
from protocol.units import CREDIT, PeerId
from simulations.adversaries import registry
from simulations.adversaries.cheat import Cheat, Place, decided
from simulations.adversaries.silent_router import SilentRouter
from simulations.delivery_watch import DeliveryWatch
from simulations.observer import Observer
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.strategy import HONEST

if TYPE_CHECKING:
    from simulations.world import World

HOUR_NS: Final = 3_600 * NS

LOOK_NS: Final = 5 * NS
"""Between two looks at the scores of attackers in gossip, ns: a graylisting is noticed so much later."""

NEVER: Final = -1


@dataclass(slots=True)
class AttackReport:
    """The account of one strategy. Money in smallest units, times in ns, from the moment it turned."""

    strategy: str
    peers: int
    at: int
    slashed: int = 0
    fees: int = 0
    """Commission on trades of the gang with itself."""
    computing: int = 0
    """What its hosts computed, honest work included, at the price that they ask for it."""
    earned: int = 0
    """Everything that was paid to it."""
    honest_earned: int = 0
    """What an honest provider was paid in the whole run, on average."""
    gain: int = 0
    """The part of it that was paid for work not done, or taken from others."""
    spared: int = 0
    """Computing it should have done, ns."""
    detected: int = NEVER
    """Until the first consequence; -1: none."""
    consequence: str = ""
    deeds: dict[str, int] = field(default_factory=dict)
    honest_fenced: int = 0
    """Leases of honest providers that were up, and declared dead."""
    honest_condemned: int = 0
    """True results of honest providers that were judged wrong."""
    wrong_paid: int = 0
    """Paid for results that are not what an honest host finds, whoever got it."""
    reputation_before: int = 0
    """Mean over its peers, parts per million."""
    reputation_after: int = 0
    delivery: DeliveryWatch | None = None

    @property
    def cost(self) -> int:
        """Slashed stake, fees and computing."""
        return self.slashed + self.fees + self.computing

    @property
    def sentence(self) -> str:
        """The account in words."""
        deeds = ", ".join(f"{name} {count}" for name, count in self.deeds.items()) or "nothing"
        end = f"first consequence after {self.detected / NS:.1f} s: {self.consequence}"
        noticed = end if self.detected != NEVER else "no consequence within the run"
        text = (
            f"{self.strategy} ({self.peers} peers; {deeds}): cost {credits_text(self.cost)} credits "
            f"({credits_text(self.slashed)} slashed, {credits_text(self.computing)} computing, "
            f"{credits_text(self.fees)} fees), gain {credits_text(self.gain)} of {credits_text(self.earned)} paid "
            f"(an honest provider: {credits_text(self.honest_earned)}); {noticed}"
        )
        harm = [
            f"{count} {what}"
            for count, what in (
                (self.honest_fenced, "honest leases fenced"),
                (self.honest_condemned, "honest results condemned"),
                (self.wrong_paid, "units paid for wrong results"),
            )
            if count
        ]
        text += f"; {', '.join(harm)}" if harm else ""
        if self.delivery is not None:
            text += f"; {_delivery_text(self.delivery)}"
        return text + "."


@dataclass(slots=True)
class _Leased:
    """What a lease is about."""

    provider: int
    is_own: bool
    """Renter and provider follow the same strategy."""
    price: int
    collateral: int


class AttackAccount(Observer):
    """Reads every decided operation from the first validator's receipts. Figures are complete after `finished`."""

    def __init__(self) -> None:
        self.reports: dict[str, AttackReport] = {}
        self._members: dict[str, list[SimPeer]] = {}
        self._of: dict[int, str] = {}
        """Peer -> strategy, for the attackers."""
        self._leases: dict[Place, _Leased] = {}
        self._paid: dict[Place, tuple[int, int]] = {}
        """Lease -> (provider, net pay)."""
        self._snapshots: dict[str, int] = {}
        """Computing of a gang before it turned, ns."""
        self._looked = 0
        self._watch: DeliveryWatch | None = None

    # ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def started(self, world: World) -> None:
        self._world = world
        self._index = {peer.id: peer for peer in world.peers}
        for adversary in world.scenario.adversaries:
            kind = registry.strategy(adversary.strategy)
            members = [peer for peer in world.peers if type(peer.strategy) is kind]
            self._members[adversary.strategy] = members
            self._of |= {peer.index: adversary.strategy for peer in members}
            report = AttackReport(adversary.strategy, len(members), adversary.at)
            self.reports.setdefault(adversary.strategy, report)
        routers = [peer.strategy for peer in world.peers if isinstance(peer.strategy, SilentRouter)]
        if routers:
            victims = frozenset(victim.index for router in routers for victim in router.victims())
            self._watch = DeliveryWatch(world, min(router.at for router in routers), victims)

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        if self._watch is not None:
            self._watch.handled(peer, cause, effects, now)
        if peer.index or not isinstance(cause, Receipts):
            return
        for operation, signed, outcome in decided(cause):
            if outcome is not None and outcome.status == "applied":
                self._applied(operation, now)
            elif outcome is not None and not isinstance(operation, Verdict):
                for item in signed.signatures:
                    self._caught(self._index.get(PeerId(item.signer)), f"the ledger refuses it: {outcome.code}", now)

    def second(self, now: int) -> None:
        for name, report in self.reports.items():
            if now >= report.at and name not in self._snapshots:
                self._snapshots[name] = self._computed(name) if report.at else 0
                report.reputation_before = self._reputation(name)
        if self._watch is not None and now >= self._looked + LOOK_NS:
            self._looked = now
            self._look_at_scores(now)

    def finished(self, now: int) -> None:
        world = self._world
        if self._watch is not None:
            self._watch.finish(now)
        for name, report in self.reports.items():
            members = self._members[name]
            report.computing = self._computed(name) - self._snapshots.get(name, 0)
            report.reputation_after = self._reputation(name)
            places = {peer.index for peer in members}
            report.earned = sum(pay for provider, pay in self._paid.values() if provider in places)
            honest = [peer.index for peer in world.peers if peer.strategy is HONEST and peer.role == "provider"]
            report.honest_earned = sum(pay for who, pay in self._paid.values() if who in honest) // max(1, len(honest))
            for peer in members:
                self._add_deeds(report, peer)
            if any(isinstance(peer.strategy, SilentRouter) for peer in members):
                report.delivery = self._watch
            world.recorder.sample(f"attack/{name}/cost", report.cost / CREDIT, now)
            world.recorder.sample(f"attack/{name}/gain", report.gain / CREDIT, now)
            world.recorder.sample(f"attack/{name}/wrong_paid", report.wrong_paid / CREDIT, now)
            if report.delivery is not None:
                world.recorder.sample(f"attack/{name}/delivered_before", report.delivery.before.ratio, now)
                world.recorder.sample(f"attack/{name}/delivered_under", report.delivery.under.ratio, now)
            if report.detected != NEVER:
                world.recorder.sample(f"attack/{name}/detected_s", report.detected / NS, now)

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _applied(self, operation: Operation, now: int) -> None:
        match operation:
            case Assign():
                self._assigned(operation)
            case Verdict() | Settle() | Fence():
                place = (operation.escrow, operation.chunk, operation.epoch)
                lease = self._leases.pop(place, None)  # Once: a repeated operation is receipted again.
                if lease is not None:
                    self._ended(operation, place, lease, now)
            case _:
                pass

    def _assigned(self, assign: Assign) -> None:
        provider = self._index[PeerId(assign.provider)].index
        ledger = self._world.peers[0].machines.ledger
        owner = self._index.get(PeerId(ledger.escrows[assign.escrow].owner))
        gang = self._of.get(provider)
        is_own = gang is not None and owner is not None and self._of.get(owner.index) == gang
        place = (assign.escrow, assign.chunk, assign.epoch)
        self._leases[place] = _Leased(provider, is_own, assign.price, assign.collateral)

    def _ended(self, operation: Verdict | Settle | Fence, place: Place, lease: _Leased, now: int) -> None:
        peer = self._world.peers[lease.provider]
        report = self.reports.get(self._of.get(lease.provider, ""))
        match operation:
            case Fence():
                if report is not None:
                    self._caught(peer, "fenced", now)
                elif peer.is_up:
                    self._harm("honest_fenced", 1, now)
            case Settle(cumulative=amount):
                self._pay(place, lease, report, amount)
            case Verdict(outcome="accept"):
                self._pay(place, lease, report, lease.price)
                honest = self._world.driver.worker.output_of.get(operation.output)
                if honest is not None and honest[0] != operation.output:
                    self._harm("wrong_paid", lease.price, now)
            case Verdict(outcome=outcome, code=code) if report is not None:
                report.slashed += slash(lease.price, lease.collateral, outcome)
                self._caught(peer, consequence(outcome, code), now)
            case Verdict(outcome="wrong"):
                honest = self._world.driver.worker.output_of.get(operation.output)
                if honest is not None and honest[0] == operation.output:
                    self._harm("honest_condemned", 1, now)
            case _:
                pass

    def _pay(self, place: Place, lease: _Leased, report: AttackReport | None, amount: int) -> None:
        self._paid[place] = (lease.provider, amount - commission(amount))
        if report is not None and lease.is_own:
            report.fees += commission(amount)

    def _harm(self, what: str, amount: int, now: int) -> None:
        """Harm to others has no sender on the ledger: every attack that is under way is charged with it."""
        for report in self.reports.values():
            if now >= report.at:
                setattr(report, what, getattr(report, what) + amount)

    def _caught(self, peer: SimPeer | None, consequence: str, now: int) -> None:
        """The first time that the network does something about an attacker."""
        report = self.reports.get(self._of.get(peer.index, "")) if peer is not None else None
        if report is not None and report.detected == NEVER and now >= report.at:
            report.detected, report.consequence = now - report.at, consequence

    # ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _add_deeds(self, report: AttackReport, peer: SimPeer) -> None:
        strategy = peer.strategy
        if not isinstance(strategy, Cheat):
            return
        report.spared += strategy.spared
        report.gain += sum(self._paid[place][1] for place in strategy.spoils if place in self._paid)
        for deed, count in strategy.deeds.items():
            report.deeds[deed] = report.deeds.get(deed, 0) + count

    def _computed(self, name: str) -> int:
        """The gang's computing so far at its own prices, smallest units."""
        seconds = self._world.driver.worker.seconds
        return sum(seconds.get(peer.index, 0) * peer.terms.price_per_hour // HOUR_NS for peer in self._members[name])

    def _reputation(self, name: str) -> int:
        members, ledger = self._members[name], self._world.peers[0].machines.ledger
        return sum(score(standing_record(ledger, peer.id)) for peer in members) // max(1, len(members))

    def _look_at_scores(self, now: int) -> None:
        gossip = self._world.gossip
        bound = gossip.params.weights.graylist_threshold
        if self._world.scenario.simulation.gossip != "gossipsub":
            return
        for peer in self._world.peers:
            if isinstance(peer.strategy, SilentRouter) and self.reports[self._of[peer.index]].detected == NEVER:
                for observer in gossip.overlay.links[peer.index]:
                    is_judge = self._world.peers[observer].strategy is HONEST
                    if is_judge and gossip.scores.value(observer, peer.index, now) < bound:
                        self._caught(peer, "graylisted", now)
                        break


def consequence(outcome: str, code: str) -> str:
    """What a verdict means for who was judged.

    >>> consequence("rejected", "out_of_tolerance")
    'verdict rejected (out_of_tolerance), barred from the job'
    """
    barred = ", barred from the job" if overturned.end_of(outcome, code) in overturned.BARRED else ""
    return f"verdict {outcome} ({code}){barred}"


def _delivery_text(watch: DeliveryWatch) -> str:
    def figures(before: float, under: float, unit: str, digits: int) -> str:
        return f"{before:.{digits}f}{unit} before, {under:.{digits}f}{unit} under attack"

    text = f"delivered to honest peers {figures(100 * watch.before.ratio, 100 * watch.under.ratio, ' %', 1)}"
    text += f", p50 {figures(watch.before.quantile_ms(0.5), watch.under.quantile_ms(0.5), ' ms', 0)}"
    text += f", p99 {figures(watch.before.quantile_ms(0.99), watch.under.quantile_ms(0.99), ' ms', 0)}"
    if watch.victims_before.expected or watch.victims_under.expected:
        ratios = figures(100 * watch.victims_before.ratio, 100 * watch.victims_under.ratio, " %", 1)
        text += f"; from and to victims {ratios}"
    return text
