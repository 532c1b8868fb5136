"""Every checker by the name that a scenario calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from simulations.checkers.acknowledged import Acknowledged
from simulations.checkers.agreement import Agreement
from simulations.checkers.checker import Checker
from simulations.checkers.custody import Custody
from simulations.checkers.epochs import Epochs
from simulations.checkers.faultless import Faultless
from simulations.checkers.heirs import Heirs
from simulations.checkers.ledger import Ledgers
from simulations.checkers.liveness import Liveness
from simulations.scenario import Check

CHECKERS: Final[dict[Check, type[Checker]]] = {
    kind.name: kind for kind in (Ledgers, Epochs, Acknowledged, Agreement, Faultless, Liveness, Custody, Heirs)
}
"""Every checker by the name that a scenario calls it."""


def checkers(names: Iterable[Check]) -> list[Checker]:
    """The checkers that a scenario names, in its order."""
    return [CHECKERS[name]() for name in names]
