"""The account's money: what it has, what it put in, what became of it. Amounts are integers, never rounded."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from gateway.answers import node_value
from gateway.door import once
from gateway.idempotency import Answer
from gateway.ownership import derived_key
from gateway.routing import Call, json_reply
from gateway.schemas import Account, Deposited, DepositRequest, Statement


async def _balance(call: Call) -> tuple[str, Statement]:
    renter = await call.gateway.owners.renter(call.account.account)
    return renter, node_value(await call.gateway.node.call("renter.balance", {"renter": renter}), Statement)


async def show_account(call: Call) -> Response:
    """Who the caller is, and what the account has."""
    renter, balance = await _balance(call)
    caller = call.account
    account = Account(
        caller.account, caller.name, renter, caller.prefix, list(caller.scopes), balance.available, balance.escrowed
    )
    return json_reply(account)


async def show_statement(call: Call) -> Response:
    """Every movement."""
    _, balance = await _balance(call)
    return json_reply(balance)


async def deposit(call: Call) -> Response:
    """Move credits from the gateway's node to the account, once per Idempotency-Key."""
    amount = call.body(DepositRequest).amount
    account = call.account.account

    async def work() -> Answer:
        renter = await call.gateway.owners.renter(account)
        reference = derived_key(account, "deposit", call.request.headers["idempotency-key"])
        params: dict[str, object] = {"renter": renter, "amount": amount, "reference": reference}
        answer = node_value(await call.gateway.node.call("renter.deposit", params), Deposited)
        return Answer(201, msgspec.json.encode(answer))

    return await once(call, work)
