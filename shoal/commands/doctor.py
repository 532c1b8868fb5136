"""`shoal doctor`: is this machine fit to be a node, and can others reach it? The same as `shoal node doctor`."""

from __future__ import annotations

import argparse

from shoal.commands.node import add_settings, run_doctor
from shoal.commands.words import Nouns


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The command and its flags."""
    text = "what this machine can offer, whether others reach it, and the one thing to fix"
    parser = nouns.add_parser("doctor", parents=[voice], help=text, description=text)
    add_settings(parser)
    parser.set_defaults(run=run_doctor)
