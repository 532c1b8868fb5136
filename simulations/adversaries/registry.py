"""Ways to cheat by name, and who of a world is turned to them.

A strategy of your own is a subclass of `simulations.strategy.Strategy` under the entry point group `shoal.adversaries`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from protocol.errors import Refused
from simulations import chance
from simulations.adversaries.censor import Censor
from simulations.adversaries.choosy_auditor import ChoosyAuditor
from simulations.adversaries.cold_boot import ColdBoot
from simulations.adversaries.colluding_auditor import ColludingAuditor
from simulations.adversaries.covert_flash import CovertFlash
from simulations.adversaries.double_claimer import DoubleClaimer
from simulations.adversaries.eclipse import Eclipse
from simulations.adversaries.free_riding_holder import FreeRidingHolder
from simulations.adversaries.junk_snapshot import JunkSnapshot
from simulations.adversaries.lazy_auditor import LazyAuditor
from simulations.adversaries.prefix_forger import PrefixForger
from simulations.adversaries.proof_forger import ProofForger
from simulations.adversaries.result_copier import ResultCopier
from simulations.adversaries.sybil import Sybil
from simulations.adversaries.unit_skipper import UnitSkipper
from simulations.adversaries.voucher_cheat import VoucherCheat
from simulations.adversaries.wash_renter import WashRenter
from simulations.population import Birth
from simulations.scenario import Adversary, Scenario
from simulations.simpeer import SimPeer
from simulations.strategy import Strategy

STRATEGIES: Final[dict[str, type[Strategy]]] = {
    "censor": Censor,
    "choosy-auditor": ChoosyAuditor,
    "cold-boot": ColdBoot,
    "colluding-auditor": ColludingAuditor,
    "covert-flash": CovertFlash,
    "double-claimer": DoubleClaimer,
    "eclipse": Eclipse,
    "free-riding-holder": FreeRidingHolder,
    "junk-snapshot": JunkSnapshot,
    "lazy-auditor": LazyAuditor,
    "prefix-forger": PrefixForger,
    "proof-forger": ProofForger,
    "result-copier": ResultCopier,
    "sybil": Sybil,
    "unit-skipper": UnitSkipper,
    "voucher-cheat": VoucherCheat,
    "wash-renter": WashRenter,
}
"""By the name that a scenario's `strategy` has."""


def strategy(name: str) -> type[Strategy]:
    """The strategy of that name, ours or one that is installed. Raises `Refused` naming all that there are."""
    found = STRATEGIES.get(name)
    if found is not None:
        return found
    for point in entry_points(group="shoal.adversaries"):
        if point.name == name:
            loaded: type[Strategy] = point.load()
            return loaded
    raise Refused(
        f"there is no adversary strategy named {name!r}",
        code="unknown_strategy",
        fix=f"Use one of {', '.join(sorted(STRATEGIES))}.",
    )


def brought(scenario: Scenario) -> list[Birth]:
    """Peers that strategies bring along, on top of the population."""
    people: list[Birth] = []
    for number, adversary in enumerate(scenario.adversaries):
        kind = strategy(adversary.strategy)
        if kind.brings:
            group = scenario.population.groups[kind.role]
            people += [
                Birth(f"{adversary.strategy}-{number}-{index}", kind.role, group) for index in range(adversary.n)
            ]
    return people


def enlist(scenario: Scenario, seed: int, peers: list[SimPeer]) -> None:
    """Give every adversary of the scenario its peers. One peer follows one strategy."""
    taken: set[int] = set()
    for number, adversary in enumerate(scenario.adversaries):
        kind = strategy(adversary.strategy)
        if kind.brings:
            chosen = [peer for peer in peers if peer.name.startswith(f"{adversary.strategy}-{number}-")]
        else:
            chosen = _drawn(
                scenario, seed, number, adversary, kind, [peer for peer in peers if peer.index not in taken]
            )
        for peer in chosen:
            taken.add(peer.index)
            peer.strategy = kind(adversary.at, adversary.options)
            peer.strategy.name = adversary.strategy


def _drawn(
    scenario: Scenario, seed: int, number: int, adversary: Adversary, kind: type[Strategy], free: list[SimPeer]
) -> list[SimPeer]:
    able = [peer for peer in free if peer.role == kind.role and peer.is_carrying]
    count = adversary.n or round(adversary.share * scenario.population.groups[kind.role].n)
    if count > len(able):
        raise Refused(
            f"adversary {number + 1} ({adversary.strategy}) wants {count} of {len(able)} {kind.role}s",
            code="too_many_adversaries",
            fix=f"Lower its n or share, or raise population.{kind.role}s.n.",
            numbers={"wanted": count, "available": len(able)},
        )
    random = chance.stream(seed, "adversary", number)
    return random.sample(able, count)
