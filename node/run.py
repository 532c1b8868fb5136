"""A node from start to end: opens the parts, restores what an earlier run left, serves, and leaves with notice."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import msgspec
import trio

from node import data_lock
from node.addresses import ADDRESSES_PER_PEER
from node.assembly import Assembly, assemble
from node.canaries import Issuer, check_alone
from node.care import Care
from node.config import Config
from node.config import identity as load_identity
from node.control import ControlServer, Handler
from node.dossier_desk import DossierDesk
from node.driver import Driver
from node.events import EventLog
from node.executors import docker_engine
from node.gpu import HostSource
from node.handing import Handing
from node.host import Host
from node.libp2p_patches import MUXER_VARIABLE, STOCK_MUXER
from node.methods import methods
from node.outcomes import Outcomes
from node.parts import Parts
from node.renter_api import renter_identity
from node.store import RecordStore
from node.thermal import Decision, Policy
from node.transport import Transport
from node.triggers import NOTICE
from node.tunnels.wiring import wire_tunnels
from node.uplink import Uplink
from node.volumes.wiring import wire_node
from node.watching import Watched, hours_of, watch_host
from protocol import genesis as genesis_file
from protocol.effects import Effect
from protocol.errors import Refused
from protocol.genesis import Genesis
from protocol.identity import Identity, peer_text
from protocol.offers import Terms
from protocol.units import Credits, Micros, PeerId
from storage.wiring import Vault
from verifier.dossiers import KEY
from verifier.wiring import Machines

STOP_GRACE_S: Final = 3.0
"""Seconds that giving leases back may take at the end; what is still out then is fenced by its watchers."""

OFFER_GAP_S: Final = 1.0
"""Seconds between two looks at the own offer: a host of short chunks would fill the gossip with its free slots."""

LAST_WORDS_S: Final = 0.2
"""Seconds for the withdrawn offer to leave the gossip queue before connections close."""

log = logging.getLogger("shoal.node")


def main(config: Config) -> int:
    """Run a node until SIGTERM, SIGINT or `node.stop`. 0 = clean end; errors are for the caller to show."""
    logging.basicConfig(
        stream=sys.stderr,
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("libp2p").setLevel(logging.ERROR)
    if config.muxer == "stock":
        os.environ[MUXER_VARIABLE] = STOCK_MUXER
    with data_lock.hold(config.data):
        identity = load_identity(config)
        try:
            genesis = genesis_file.from_json(config.genesis_file.read_bytes())
        except OSError as error:
            raise Refused(
                f"cannot read the genesis file {config.genesis_file}: {error.strerror}",
                code="no_genesis",
                fix="Get it from the network's founder and name it with --genesis, or try `shoal devnet up`.",
            ) from error
        trio.run(_run, replace_network(config, genesis), identity, genesis)
    return 0


def replace_network(config: Config, genesis: Genesis) -> Config:
    """The network is the chain of the genesis; another name in the configuration is a mistake worth telling."""
    if config.network not in ("shoal", genesis.chain):
        raise Refused(
            f"the configuration says network {config.network!r}, the genesis file is of {genesis.chain!r}",
            code="wrong_network",
            fix="Use the genesis file of your network, or leave --network out.",
        )
    return msgspec.structs.replace(config, network=genesis.chain)


async def _run(config: Config, identity: Identity, genesis: Genesis) -> None:
    if config.canaries_per_hour:
        check_alone(genesis, identity.peer)
    node = await assemble(config, identity, genesis)
    try:
        async with node.transport.serving(), trio.open_nursery() as nursery:
            terms = _terms(config, node.host, node.transport.addresses(), node.serves, node.records)
            _restore(node.machines, node.vault, identity, node.records, node.driver)
            if node.machines.judge is not None:
                node.machines.judge.dossiers.restore(node.records.sizes(KEY), node.clock.now())
            ending = trio.Event()
            nursery.start_soon(node.driver.run)
            nursery.start_soon(_watch_signals, ending)
            parts = _parts(node, terms, ending.set)
            handing = _handing(parts, node.machines, node.vault, node.driver)
            await nursery.start(ControlServer(config.socket, _methods(node, parts, handing, nursery)).serve)
            keeper = trio.CancelScope()
            nursery.start_soon(
                _within, keeper, _keep_offer, node.machines, node.driver, node.transport, terms, node.uplink
            )
            nursery.start_soon(_tell, parts.events, node.outcomes)
            nursery.start_soon(node.stay.keep_note)
            if node.drand:
                nursery.start_soon(node.drand.run)
            if config.canaries_per_hour:
                nursery.start_soon(Issuer(parts, node.host.runner, node.answers).run)
            nursery.start_soon(watch_host, _watched(config), parts, node.clock, _tell_heat, handing.fire)
            log.info(
                "node %s is up on %s, executors: %s",
                peer_text(identity.peer),
                ", ".join(node.transport.addresses()),
                ", ".join(node.host.runner.tiers),
            )
            await ending.wait()
            keeper.cancel()
            await handing.out(NOTICE, may_finish=False)
            await _leave(node.machines, node.driver, parts.events)
            node.stay.leave()
            nursery.cancel_scope.cancel()
    finally:
        node.close()


def _methods(node: Assembly, parts: Parts, handing: Handing, nursery: trio.Nursery) -> dict[str, Handler]:
    """Everything that the control socket offers; what stands behind volumes and tunnels is started."""
    runner, provider = node.host.runner, node.machines.provider
    tunnels = wire_tunnels(node.config.network, node.transport, nursery, provider, runner, node.clock.now)
    assert node.transport.overlay is not None
    desk = DossierDesk(parts, node.transport.overlay.requests)
    parts.care = Care(node.vault, provider, node.uplink)
    volumes = wire_node(parts, node.vault, node.erasure)
    parts.volumes = volumes.jobs
    nursery.start_soon(volumes.run)
    return {**methods(parts, node.config.data / "uploads", desk, tunnels, handing), **volumes.methods}


def _watched(config: Config) -> Watched:
    """What is looked after on this host."""
    return Watched(
        HostSource(),
        Policy(hours=hours_of(config.hours)),
        shlex.split(config.owner_command),
        lambda: docker_engine.running,
    )


def _parts(node: Assembly, terms: Terms, stop: Callable[[], None]) -> Parts:
    """What the control socket's methods act on."""
    machines, world = node.machines, node.world
    return Parts(
        config=node.config,
        identity=node.identity,
        started=node.clock.now(),
        now=node.clock.now,
        driver=node.driver,
        client=machines.client,
        steward=machines.steward,
        provider=machines.provider,
        offers=machines.offers,
        maker=machines.maker,
        watcher=machines.watcher,
        terms=lambda: machines.maker.terms or terms,
        transport=world.transport,
        blobs=node.blobs,
        records=world.records,
        events=world.events,
        outcomes=node.outcomes,
        ledger=lambda: machines.ledger,
        plan=machines.steward.plan,
        stop=stop,
        witness=machines.justice.witness,
        drifting=lambda: machines.judge.drifting if machines.judge else {},
        shown=node.benchmarks.issuer.found,
        said=lambda: node.benchmarks.answerer.said,
    )


def _handing(parts: Parts, machines: Machines, vault: Vault, driver: Driver) -> Handing:
    """How running work is saved at once, or leaves."""
    leases = machines.provider.leases

    def save() -> None:
        for lease in list(leases.values()):
            driver.command(vault.protector, functools.partial(vault.protector.cut_now, lease.task, False))

    return Handing(driver, parts.hold, leases.values, parts.events, machines.reclaim, save)


def _terms(config: Config, host: Host, addresses: list[str], serves: tuple[PeerId, ...], records: RecordStore) -> Terms:
    """What this node offers at first; a price set at runtime outlives a restart."""
    saved = records.get("setting/price_per_hour")
    slots = config.slots if "provider" in config.roles else 0
    return Terms(
        roles=config.roles,
        capability=host.capability,
        addresses=tuple(addresses[:ADDRESSES_PER_PEER]),
        executors=host.tiers,
        runtimes=host.runtimes,
        slots=slots,
        slots_free=slots,
        price_per_hour=Credits(int(saved) if saved else config.price_per_hour),
        serves=serves,
    )


def _restore(machines: Machines, vault: Vault, identity: Identity, records: RecordStore, driver: Driver) -> None:
    """Go on where an earlier run of this node ended."""
    for key, _ in records.scan("renter/"):
        renter = renter_identity(identity, key.removeprefix("renter/"))
        machines.steward.renters[renter.peer] = renter
    prefixes = ("job/", "lease/", "trace/", "appeal/", "beacon/", "rival/")
    kept = [item for prefix in prefixes for item in records.scan(prefix)]
    held = [item for prefix in ("shard/", "guard/", "snapshot/") for item in records.scan(prefix)]
    for machine, act in (*vault.restored(held), *machines.restored(kept, identity.peer)):
        driver.later(machine, act)


async def _keep_offer(machines: Machines, driver: Driver, transport: Transport, terms: Terms, uplink: Uplink) -> None:
    """Publish the first offer, and a new one whenever slots, addresses or uplink change, at most once a second."""

    def offer(now: Micros) -> list[Effect]:
        addresses = tuple(transport.addresses()[:ADDRESSES_PER_PEER])
        here = replace(terms, addresses=addresses, place=transport.place, uplink=uplink.look(now))
        return machines.offer(here, now)

    while True:
        driver.command(machines.maker, offer)
        await trio.sleep(OFFER_GAP_S)


async def _within(scope: trio.CancelScope, task: Callable[..., Awaitable[None]], *args: object) -> None:
    with scope:
        await task(*args)


async def _tell(events: EventLog, outcomes: Outcomes) -> None:
    """Let deposits that wait know of new blocks."""
    async for event in events.follow(0):
        if event.name in ("followed", "block"):
            outcomes.grown()


def _tell_heat(decision: Decision) -> None:
    log.warning("thermal policy: %s (%s)", decision.level.name.lower(), decision.reason or "back to normal")


async def _watch_signals(ending: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            log.info("%s: ending cleanly", signal.Signals(number).name)
            ending.set()
            return


async def _leave(machines: Machines, driver: Driver, events: EventLog) -> None:
    """Give the leases back and take the offer down, and wait a little for the ledger's word."""
    driver.command(machines.provider, lambda now: machines.provider.drain(False, now))
    driver.command(machines.maker, machines.maker.withdraw)
    with trio.move_on_after(STOP_GRACE_S):
        start = events.next_sequence
        while any(lease.phase in ("waiting", "running", "claiming") for lease in machines.provider.leases.values()):
            async for event in events.follow(start):
                start = event.sequence + 1
                break
        await trio.sleep(LAST_WORDS_S)
