"""`shoal demo`: the whole story in one command."""

from __future__ import annotations

import argparse
from pathlib import Path

from shoal.commands.words import Nouns
from shoal.output import Output


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The command and its flags."""
    text = "a whole network on this machine does a real job, loses a peer, is checked and paid"
    parser = nouns.add_parser("demo", parents=[voice], help=text, description=text)
    parser.add_argument("--cheat", action="store_true", help="one provider returns wrong pixels; watch it being caught")
    parser.add_argument("--keep", action="store_true", help="leave the network running at the end")
    parser.add_argument(
        "--to", type=Path, default=Path("shoal-demo"), metavar="DIR", help="results (default ./%(default)s)"
    )
    parser.add_argument("--no-train", action="store_true", help="only render; no PyTorch needed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Tell the story."""
    from shoal.demo import play

    return play(args.to.absolute(), out, cheats=args.cheat, keeps=args.keep, trains=not args.no_train)
