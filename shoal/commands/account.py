"""`shoal account`: what the renter's account at a gateway has."""

from __future__ import annotations

import argparse

from shoal import exits
from shoal.commands.words import Nouns, add_gateway, add_noun, client
from shoal.output import Output, money, pairs


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "account", "your account at a gateway: balance, deposit")
    show = verbs.add_parser("show", parents=[voice], help="who you are there, and what you have")
    add_gateway(show)
    show.set_defaults(run=run_show)
    deposit = verbs.add_parser("deposit", parents=[voice], help="put credits on the account")
    deposit.add_argument("credits", help="how many, like 25 or 0.5")
    deposit.add_argument("--key", default="", help="repeat the command with the same key and it happens once")
    add_gateway(deposit)
    deposit.set_defaults(run=run_deposit)


def run_show(args: argparse.Namespace, out: Output) -> int:
    """Name, renter id, credits."""
    from msgspec import to_builtins

    with client(args) as gateway:
        account = gateway.balance()
    rows = [
        ("account", account.name), ("renter", account.renter), ("available", f"{money(account.available)} credits"),
        ("in escrow", f"{money(account.escrowed)} credits"),
    ]  # fmt: skip
    out.data(to_builtins(account), lambda: pairs(rows))
    return exits.OK


def run_deposit(args: argparse.Namespace, out: Output) -> int:
    """Move credits from the gateway's node to the account."""
    from protocol.credits import credits_from_text

    amount = credits_from_text(args.credits)
    with client(args) as gateway:
        available = gateway.deposit(amount, args.key)
    out.data({"deposited": amount, "available": available}, lambda: f"available: {money(available)} credits")
    return exits.OK
