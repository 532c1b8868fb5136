"""What becomes of packets: the jitter of their delays, their turn on a last mile, and what lost ones cost in time."""

from __future__ import annotations

import math
from bisect import bisect_right
from random import Random
from typing import Final

from protocol.errors import Refused
from simulations.bulk import UNLIMITED
from simulations.scenario import NS

PACKET: Final = 1_400
"""Bytes of payload per packet: an Ethernet frame less headers and the odd tunnel."""

SURVIVES: Final = 10 * NS
"""A connection whose data is not acknowledged for so long is gone: TCP_USER_TIMEOUT of node/libp2p_patches.py."""

RTO_MIN: Final = NS // 5
"""Least retransmission timeout, ns: Linux's 200 ms (RFC 6298 would have 1 s)."""

ACKS: Final = 3
"""Packets that must arrive behind a lost one for it to be sent again after one round trip (RFC 5681 §3.2)."""

BITS: Final = 12
"""4,096 steps of jitter: the longest is 8 standard deviations above the mean, and one draw is one call."""

POINT: Final = 20
"""Binary places of a jitter factor."""


def jitter(share: float) -> list[int]:
    """1 << BITS equally likely factors of a delay in 1/2**POINT: mean 1, standard deviation `share`, never negative.

    A floor of about 1 - share (light in glass) and an exponential queue behind it. Raises Refused outside 0..1.
    """
    if not 0.0 <= share <= 1.0:
        raise Refused(
            f"topology.jitter is {share:g}, not between 0 and 1",
            code="bad_jitter",
            fix="Jitter is the standard deviation of a delay as a share of its mean, for example 0.1.",
            numbers={"jitter": f"{share:g}"},
        )
    count = 1 << BITS
    queue = [-math.log(1.0 - (index + 0.5) / count) for index in range(count)]
    mean = sum(queue) / count
    deviation = math.sqrt(sum((wait - mean) ** 2 for wait in queue) / count)
    return [max(0, round((1.0 + share * (wait - mean) / deviation) * (1 << POINT))) for wait in queue]


def taken(busy: list[int], reaches: int, service: int, now: int) -> int:
    """When a link is through with a message that reaches it then and occupies it for `service` ns, which is booked.

    `busy` holds the link's busy times as starts and ends, rising; what ended by `now` is forgotten. A message takes the
    first gap that is long enough, so it may overtake: messages are booked when they are sent, and one from the other
    end of the world must not hold up those that come from next door before it. In order of arrival it is a FIFO.
    """
    while busy and busy[1] <= now:
        del busy[:2]
    if not busy or busy[-1] < reaches:
        busy += (reaches, reaches + service)
        return reaches + service
    spot = bisect_right(busy, reaches)
    begins = reaches
    if spot & 1:
        begins = busy[spot]
        spot += 1
    while spot < len(busy) and busy[spot] - begins < service:
        begins = busy[spot + 1]
        spot += 2
    ends = begins + service
    joins_next = spot < len(busy) and busy[spot] == ends
    if spot and busy[spot - 1] == begins:
        if joins_next:
            del busy[spot - 1 : spot + 1]
        else:
            busy[spot - 1] = ends
    elif joins_next:
        busy[spot] = begins
    else:
        busy[spot:spot] = (begins, ends)
    return ends


class Losses:
    """Packets are lost independently, with a share that changes over time."""

    __slots__ = ("_dice", "_log", "share")

    def __init__(self, share: float, random: Random) -> None:
        self._dice = random.random
        self.become(share)

    def become(self, share: float) -> None:
        """From now on so many are lost. Raises Refused outside 0..1."""
        if not 0.0 <= share <= 1.0:
            raise Refused(
                f"topology.loss is {share:g}, not between 0 and 1",
                code="bad_loss",
                fix="Loss is the share of packets that are lost, for example 0.01.",
                numbers={"loss": f"{share:g}"},
            )
        self.share = share
        self._log = math.log1p(-share) if 0.0 < share < 1.0 else 0.0

    def delay(self, size: int, trip: int) -> int:
        """ns that lost packets add to a message of `size` bytes over a round trip of `trip` ns; -1: given up.

        Round by round the lost packets are sent again: after a round trip where enough others of the round arrived
        behind them, else when the timer runs out, which doubles each time.
        """
        if size <= PACKET:
            if self._dice() >= self.share:
                return 0
            packets = lost = 1
        else:
            packets = -(-size // PACKET)
            lost = self._lost(packets)
        waited, timeout = 0, max(RTO_MIN, 2 * trip)
        while lost:
            if packets - lost >= ACKS:
                waited += trip
            else:
                waited += timeout
                timeout *= 2
            if waited > SURVIVES:
                return -1
            packets, lost = lost, self._lost(lost)
        return waited

    def _lost(self, packets: int) -> int:
        """How many of so many packets: the gaps between losses are geometric, one draw each."""
        share, dice = self.share, self._dice
        if packets == 1:
            return 1 if dice() < share else 0
        if share <= 0.0 or share >= 1.0:
            return packets if share else 0
        lost, at = 0, int(math.log(1.0 - dice()) / self._log)
        while at < packets:
            lost += 1
            at += 1 + int(math.log(1.0 - dice()) / self._log)
        return lost

    def pace(self, trip: int) -> int:
        """Bits per second of one long transfer over a round trip of `trip` ns; 0: nothing gets through.

        The square-root law: 1.22 packets per round trip and root of the loss (Mathis, Semke, Mahdavi, Ott: The
        Macroscopic Behavior of the TCP Congestion Avoidance Algorithm, 1997). It holds for a loss of a few per cent.
        """
        if self.share <= 0.0 or self.share >= 1.0:
            return 0 if self.share else UNLIMITED
        return max(1, int(PACKET * 8 * NS * math.sqrt(1.5 / self.share)) // max(1, trip))
