"""The command line: `shoal <noun> <verb>`. Each command's work is imported when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, cast

from protocol.errors import Refused, ShoalError
from shoal import exits
from shoal.commands import account, completion, demo, devnet, doctor, gateway, job, node, sim, tunnel, verify, volume
from shoal.output import Output

VERSION: Final = "0.1.0"

EPILOG: Final = """\
start here:
  shoal demo                    a whole network on this machine does a real job, before your eyes
  shoal node doctor             what this machine could offer, and what is missing
  shoal job submit job.yml      plan, price, [Y/n], run
  shoal sim run churn           an experiment: the same code, a simulated network

exit codes: 0 ok · 1 the job failed, or a simulation broke a rule · 2 wrong input · 3 refused
            4 unavailable, try later · 5 fault · 130 Ctrl-C
"""

Runner = Callable[[argparse.Namespace, Output], int]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and what to do in another, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise Refused(message, code="usage", fix=f"Run `{self.prog} --help`.")


def build_parser() -> argparse.ArgumentParser:
    """All commands, nouns first."""
    parser = Parser(
        prog="shoal", description="A peer-to-peer network in which idle GPUs do useful, checked, paid work.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"shoal {VERSION}")
    nouns = parser.add_subparsers(dest="noun", metavar="<command>", required=True, parser_class=Parser)
    voice = argparse.ArgumentParser(add_help=False)
    voice.add_argument("--json", action="store_true", help="JSON for programs, errors too")
    voice.add_argument("--quiet", "-q", action="store_true", help="no talk on stderr")
    for noun in (node, job, verify, volume, tunnel, account, devnet, demo, doctor, gateway, sim, completion):
        noun.register(nouns, voice)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    out = Output(
        sys.stdout, sys.stderr, os.environ, as_json="--json" in words, is_quiet="--quiet" in words or "-q" in words
    )
    try:
        args = build_parser().parse_args(words)
        return cast("Runner", args.run)(args, out)
    except ShoalError as error:
        out.fail(error)
        return exits.exit_code(error)
    except KeyboardInterrupt:
        out.say("\ninterrupted")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has enough (`| head`). Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
