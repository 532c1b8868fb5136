"""`shoal verify RECEIPT`: was this job judged and paid by the rules? Asks nobody, and trusts the genesis file alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from protocol.errors import Refused
from shoal import exits
from shoal.commands.words import Nouns, devnet_folder, read
from shoal.output import Output


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The command and its flags."""
    text = "check a receipt offline: signatures, every payment, the result's files, and what was opened to judges"
    parser = nouns.add_parser("verify", parents=[voice], help=text, description=text)
    parser.add_argument("receipt", type=Path, metavar="RECEIPT", help="file of `shoal job receipt JOB`")
    parser.add_argument(
        "--result", type=Path, metavar="DIR", help="folder of `shoal job result`: are its files the paid ones?"
    )
    parser.add_argument(
        "--units", type=Path, metavar="FILE", help="file of `shoal job evidence --save`: does what was opened agree?"
    )
    add_genesis(parser)
    parser.set_defaults(run=run)


def add_genesis(parser: argparse.ArgumentParser) -> None:
    """--genesis FILE."""
    parser.add_argument(
        "--genesis", type=Path, metavar="FILE", help="genesis file of the network (default: the devnet's)"
    )


def run(args: argparse.Namespace, out: Output) -> int:
    """Check the file that is named."""
    return check(read(args.receipt), args.receipt, args.genesis, out, args.result, args.units)


def check(
    data: bytes, path: Path, genesis_file: Path | None, out: Output,
    result: Path | None = None, units: Path | None = None,
) -> int:  # fmt: skip
    """Verify a receipt, and where they are given the files in the folder `result` and the file of opened `units`; say
    what it proves."""
    from protocol import genesis
    from shoal import receipts
    from shoal.receipt_text import account_data, account_text, units_data, units_line
    from shoal.result_folder import verify_folder

    founded = genesis.from_json(read(genesis_file or _devnet_genesis()))
    account = receipts.verify(data, founded)
    told, lines = account_data(account, path), []
    if result is not None:
        chunks = verify_folder(account, result)
        told["result_chunks"] = chunks
        lines = [("result", f"{result}: the files of {chunks} of {len(account.outputs())} chunks, as they were judged")]
    if units is not None:
        from shoal import units_file

        opened = units_file.verify(account, units, founded)
        told["units"] = units_data(opened)
        lines.append(("units", units_line(opened, units)))
    out.data(told, lambda: account_text(account, path, lines))
    return exits.OK


def _devnet_genesis() -> Path:
    from shoal.devnet_state import read_state

    state = read_state(devnet_folder(argparse.Namespace()))
    if state is None:
        raise Refused(
            "the genesis file says whose signatures count, and none is named", code="usage",
            fix="Give --genesis FILE; get it from the network's founder, not from the gateway that you check.",
        )  # fmt: skip
    return Path(state.genesis)
