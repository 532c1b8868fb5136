"""`shoal completion`: the script that makes a shell complete commands and flags."""

from __future__ import annotations

import argparse
from typing import Final

from shoal import exits
from shoal.commands.words import Nouns
from shoal.output import Output

HOW: Final = {
    "bash": "shoal completion bash > ~/.local/share/bash-completion/completions/shoal",
    "zsh": "shoal completion zsh > ~/.zfunc/_shoal   (with fpath+=~/.zfunc before compinit)",
    "fish": "shoal completion fish > ~/.config/fish/completions/shoal.fish",
}


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The command and its flags."""
    epilog = "\n".join(HOW.values())
    parser = nouns.add_parser(
        "completion", parents=[voice], help="completion for bash, zsh or fish", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("shell", choices=tuple(HOW))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Print the script."""
    import shtab

    from shoal.cli import build_parser

    shell = str(args.shell)
    parser = build_parser()
    script = fish_script(parser) if shell == "fish" else shtab.complete(parser, shell)
    out.data({"shell": shell, "script": script}, lambda: script)
    out.say(f"# {HOW[shell]}")
    return exits.OK


def fish_script(parser: argparse.ArgumentParser) -> str:
    """shtab writes bash and zsh; fish needs one line per word."""
    lines, seen = ["complete -c shoal -f"], "__fish_seen_subcommand_from"
    for noun, inner in _choices(parser):
        lines.append(f"complete -c shoal -n __fish_use_subcommand -a {noun}")
        verbs = _choices(inner)
        lines += [
            f"complete -c shoal -n '{seen} {noun}; and not {seen} {_words(verbs)}' -a {verb}" for verb, _ in verbs
        ]
        for verb, leaf in verbs or [("", inner)]:
            where = f"{seen} {noun}; and {seen} {verb}" if verb else f"{seen} {noun}"
            lines += [f"complete -c shoal -n '{where}' -l {flag}" for flag in _flags(leaf)]
    return "\n".join(lines)


def _choices(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [(name, inner) for group in groups for name, inner in group.choices.items()]


def _words(verbs: list[tuple[str, argparse.ArgumentParser]]) -> str:
    return " ".join(verb for verb, _ in verbs)


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [option[2:] for action in parser._actions for option in action.option_strings if option.startswith("--")]
