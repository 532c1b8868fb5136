"""Every operation of the gateway: the list from which the routes and the documentation are made."""

from __future__ import annotations

from typing import Final

from gateway import handbook, health, market, money
from gateway.job_operations import JOB_OPERATIONS, NODE
from gateway.page_operations import PAGE_OPERATIONS
from gateway.routing import Operation
from gateway.schemas import (
    Account,
    Deposited,
    DepositRequest,
    Health,
    OfferList,
    OfferQuery,
    Readiness,
    Statement,
    Version,
)
from gateway.volumes import VOLUME_OPERATIONS

OPERATIONS: Final[tuple[Operation, ...]] = (
    *JOB_OPERATIONS,
    *VOLUME_OPERATIONS,
    # market
    Operation(
        "GET",
        "/market/offers",
        "listOffers",
        "Providers that can be had, cheapest first",
        market.list_offers,
        "market",
        query=OfferQuery,
        reply=OfferList,
        problems=NODE,
    ),
    Operation(
        "GET",
        "/marketplace/cluster",
        "showCluster",
        "Peers, slots and cards, counted",
        market.show_cluster,
        "market",
        problems=NODE,
    ),
    Operation(
        "GET",
        "/marketplace/pricing",
        "showPricing",
        "What providers ask for",
        market.show_pricing,
        "market",
        problems=NODE,
    ),
    Operation("GET", "/marketplace/queue", "showQueue", "Work that waits", market.show_queue, "market", problems=NODE),
    # account
    Operation(
        "GET",
        "/account",
        "showAccount",
        "Who the token belongs to, and what the account has",
        money.show_account,
        "account",
        reply=Account,
        problems=NODE,
    ),
    Operation(
        "POST",
        "/account/deposit",
        "deposit",
        "Put credits into the account, once per Idempotency-Key",
        money.deposit,
        "account",
        scope="money",
        body=DepositRequest,
        takes_key=True,
        needs_key=True,
        reply=Deposited,
        status=201,
        problems=(*NODE, "insufficient_funds"),
    ),
    Operation(
        "GET",
        "/account/statement",
        "showStatement",
        "Every movement of the account",
        money.show_statement,
        "account",
        reply=Statement,
        problems=NODE,
    ),
    # the gateway itself
    Operation(
        "GET",
        "/healthz",
        "healthz",
        "The process runs",
        health.healthz,
        "gateway",
        auth="none",
        reply=Health,
        is_limited=False,
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether requests will be answered, and why not",
        health.readyz,
        "gateway",
        auth="none",
        reply=Readiness,
        is_limited=False,
    ),
    Operation("GET", "/version", "version", "What runs here", health.version, "gateway", auth="none", reply=Version),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "Prometheus metrics",
        health.show_metrics,
        "gateway",
        auth="none",
        reply_media=("text/plain",),
        is_limited=False,
    ),
    Operation("GET", "/openapi.json", "openapi", "This document", handbook.show_openapi, "gateway", auth="none"),
    *PAGE_OPERATIONS,
)
