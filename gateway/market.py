"""The market as this gateway's node sees it."""

from __future__ import annotations

from starlette.responses import Response

from gateway.peers import peers_of
from gateway.routing import Call, json_reply
from gateway.schemas import OfferList, OfferQuery, Peer


async def list_offers(call: Call) -> Response:
    """Providers that can be had, cheapest first."""
    query = call.asked(OfferQuery)
    peers = peers_of(await call.gateway.node.call("node.peers"))
    offers = [peer for peer in peers if "provider" in peer.roles and _fits(peer, query)]
    offers.sort(key=lambda peer: (peer.price_per_hour is None, peer.price_per_hour or 0, peer.peer))
    return json_reply(OfferList(offers))


def _fits(peer: Peer, query: OfferQuery) -> bool:
    price = query.price_per_hour_max
    return (
        (not query.executor or query.executor in peer.executors)
        and (not query.runtime or any(runtime.name == query.runtime for runtime in peer.runtimes))
        and (not query.gpu or any(query.gpu.lower() in gpu.name.lower() for gpu in peer.gpus))
        and (price is None or (peer.price_per_hour is not None and peer.price_per_hour <= price))
        and peer.slots_free >= query.slots_free_min
    )


async def show_cluster(call: Call) -> Response:
    """Peers, slots and cards of the network, counted."""
    return json_reply(await call.gateway.node.call("market.cluster"))


async def show_pricing(call: Call) -> Response:
    """What providers ask for."""
    return json_reply(await call.gateway.node.call("market.pricing"))


async def show_queue(call: Call) -> Response:
    """Work that waits."""
    return json_reply(await call.gateway.node.call("market.queue"))
