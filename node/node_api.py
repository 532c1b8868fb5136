"""`node.*` and `market.*` of the control socket: this node and the network as it sees it. Spec: specs/16-control.md."""

from __future__ import annotations

import statistics
from dataclasses import asdict, replace
from typing import Final

import msgspec

from node.control import Emit
from node.control_methods import DrainParams, EventsParams, NoParams, PriceParams, ReclaimParams
from node.handing import Handing
from node.parts import Parts
from node.proof_views import earning_view
from node.quality_views import quality_view
from node.views import Plain, job_text, offer_view, share_view
from protocol.identity import peer_text
from protocol.messages import Offer
from protocol.ranking import rank, standing_record
from protocol.reputation import score
from protocol.units import Credits, JobId, Micros, PeerId

SOFTWARE: Final = "shoal/0.1.0"
"""Name and version of this program, as hello and status say it."""


class NodeApi:
    """`node.*` and `market.*`: the node and the network as it sees them."""

    def __init__(self, parts: Parts, handing: Handing | None = None) -> None:
        """`handing`: how work leaves with a snapshot; without it, it is given back."""
        self._parts = parts
        leases = parts.provider.leases
        self._handing = handing or Handing(parts.driver, parts.hold, lambda: leases.values(), parts.events)

    async def status(self, params: NoParams) -> Plain:
        """The node itself."""
        parts = self._parts
        offer, ledger = parts.terms(), parts.ledger()
        return {
            "peer": peer_text(parts.identity.peer),
            "network": parts.config.network,
            "roles": list(parts.config.roles),
            "software": SOFTWARE,
            "started": parts.started,
            "now": parts.now(),
            "addresses": parts.transport.addresses(),
            "connected": [peer_text(peer) for peer in parts.transport.connected()],
            "slots": offer.slots,
            "slots_free": parts.provider.slots_free,
            "price_per_hour": offer.price_per_hour,
            "is_draining": parts.provider.is_draining,
            "executors": list(offer.executors),
            "runtimes": [{"name": item.name, "digest": item.digest.hex()} for item in offer.runtimes],
            "gpus": msgspec.to_builtins(offer.capability.gpus),
            "capability": msgspec.to_builtins(offer.capability),
            "ledger": {
                "height": ledger.height,
                "time": ledger.time,
                "validators": [peer_text(peer) for peer in ledger.validators.peers],
            },
            "care": parts.care.status(parts.now()) if parts.care is not None else None,
            "handovers": len(share_view(parts.identity.peer, ledger)),
            "available": ledger.available("U", parts.identity.peer),
            "stake": ledger.available("S", parts.identity.peer),
            "drifting": [
                {"provider": peer_text(provider), "profile": profile, "units": found.units, "detail": found.detail}
                for (provider, profile), found in sorted(parts.drifting().items())
            ],
            "unshown": [
                {"peer": peer_text(peer), "kind": kind, **asdict(found)}
                for peer in sorted(parts.offers.offers(parts.now()))
                for kind, found in parts.shown(peer).items()
                if found.code != "plausible"
            ],
            "running": [
                {
                    "job": job_text(lease.job),
                    "chunk": lease.assign.chunk,
                    "epoch": lease.assign.epoch,
                    "phase": lease.phase,
                }
                for lease in parts.provider.leases.values()
            ],
        }

    async def peers(self, params: NoParams) -> Plain:
        """Every peer with a live offer."""
        return {
            "peers": [
                self._peer(peer, offer) for peer, offer in sorted(self._parts.offers.offers(self._parts.now()).items())
            ]
        }

    def _peer(self, peer: PeerId, offer: Offer) -> Plain:
        parts = self._parts
        ledger = parts.ledger()
        is_here = peer == parts.identity.peer or peer in parts.transport.connected()
        watched = parts.watcher.states(parts.now()).get(peer)
        liveness = type(watched).__name__.lower() if watched is not None else "alive" if is_here else "unknown"
        seen = offer_view(
            peer,
            offer,
            is_here,
            liveness,
            score(standing_record(ledger, peer)),
            ledger.available("S", peer),
            offer.issued,
        )
        return {**seen, "benchmarks": {kind: asdict(found) for kind, found in parts.shown(peer).items()}}

    async def price(self, params: PriceParams) -> Plain:
        """Show or set the hourly price; it holds for new leases from the next offer on."""
        parts, per_hour = self._parts, params.per_hour
        if per_hour is not None:
            parts.records.put("setting/price_per_hour", str(per_hour).encode())
            changed = replace(parts.terms(), price_per_hour=Credits(per_hour))
            parts.driver.command(parts.maker, lambda now: parts.maker.change(changed, now))
        return {"price_per_hour": parts.terms().price_per_hour}

    async def drain(self, params: DrainParams) -> Plain:
        """Stop taking work, or take it again."""
        parts = self._parts
        if params.resume:
            parts.release()
        else:
            parts.hold(params.finish_running)
        return {"is_draining": parts.provider.is_draining, "running": len(parts.provider.leases)}

    async def reclaim(self, params: ReclaimParams) -> Plain:
        """The owner wants the machine back: hand over what runs, and say what went where."""
        rows = await self._handing.out(Micros(params.notice))
        return {"leaving": rows, "is_draining": self._parts.provider.is_draining}

    async def earnings(self, params: NoParams) -> Plain:
        """Every verdict on this node's work, line by line."""
        lines: list[Plain] = []
        ledger, me = self._parts.ledger(), self._parts.identity.peer
        reputation, _ = rank(ledger, me)
        for _, value in self._parts.records.scan("earning/"):
            line = msgspec.msgpack.decode(value, type=dict[str, int | str])
            more = earning_view(dict(line), ledger, reputation, self._parts.now())
            lines.append({**line, **more, "job": f"job_{line['job']}", "escrow": f"esc_{line['escrow']}"})
        total = sum(int(str(line["paid"])) for line in lines)
        slashed = sum(int(str(line["slashed"])) for line in lines)
        shares = share_view(self._parts.identity.peer, self._parts.ledger())
        handed = sum(int(str(share["paid"])) for share in shares)
        offers = self._parts.offers.offers(self._parts.now()).values()
        prices = [offer.price_per_hour for offer in offers if offer.slots]
        quality = quality_view(me, ledger, self._parts.terms().price_per_hour, prices)
        return {
            "lines": lines, "total": total + handed, "slashed": slashed, "shares": shares, "quality": quality,
        }  # fmt: skip

    async def follow(self, params: EventsParams, emit: Emit) -> None:
        """Everything that happens, from `since` or from now on."""
        start = self._parts.events.next_sequence if params.since is None else params.since + 1
        async for event in self._parts.events.follow(start):
            await emit(
                {"sequence": event.sequence, "time": event.time, "name": event.name, "fields": dict(event.fields)}
            )

    async def stop(self, params: NoParams) -> Plain:
        """End the node cleanly."""
        self._parts.stop()
        return {}

    async def pricing(self, params: NoParams) -> Plain:
        """What an hour costs now, over all live offers with slots."""
        prices = sorted(
            offer.price_per_hour for offer in self._parts.offers.offers(self._parts.now()).values() if offer.slots
        )
        middle = int(statistics.median(prices)) if prices else 0
        return {
            "offers": len(prices),
            "min": prices[0] if prices else 0,
            "median": middle,
            "max": prices[-1] if prices else 0,
        }

    async def queue(self, params: NoParams) -> Plain:
        """Jobs of this steward that wait for providers, and why providers did not bid."""
        steward = self._parts.steward
        waiting = [
            job.record
            for job in steward.jobs.values()
            if job.record.state in ("queued", "running") and job.record.open_chunks()
        ]
        return {
            "jobs": [
                {
                    "job": job_text(record.job),
                    "open_chunks": len(record.open_chunks()),
                    "since": record.confirmed,
                    "no_bids": [
                        {"peer": peer_text(peer), "code": item.code, "detail": item.detail}
                        for peer, item in steward.no_bids.get(JobId(record.job), {}).items()
                    ],
                }
                for record in waiting
            ]
        }

    async def cluster(self, params: NoParams) -> Plain:
        """Counts over all live offers."""
        offers = list(self._parts.offers.offers(self._parts.now()).values())
        return {
            "peers": len(offers),
            "providers": sum(1 for offer in offers if offer.slots),
            "validators": sum(1 for offer in offers if "validator" in offer.roles),
            "slots": sum(offer.slots for offer in offers),
            "slots_free": sum(offer.slots_free for offer in offers),
            "gpus": sum(len(offer.capability.gpus) for offer in offers),
            "cpus_milli": sum(offer.capability.cpus_milli for offer in offers if offer.slots),
            "height": self._parts.ledger().height,
            "network": self._parts.config.network,
        }
