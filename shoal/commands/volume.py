"""`shoal volume`: network volumes that outlive every node: create, fill, read, snapshot, recover, remove."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocol.errors import Refused
from shoal import exits
from shoal.commands.words import Nouns, add_data, add_gateway, add_noun, agreed, client, control, require_answer
from shoal.output import Output, pairs, size_text, table, time_text

if TYPE_CHECKING:
    from shoal.volume_line import Plain, VolumeLine
    from shoal.volume_transfer import Moved

NAME_HELP: Final = "the volume's name"
WHICH_HELP: Final = "a version's number or a snapshot's name (default: the newest)"
DATA_HELP: Final = "speak to the own node of this data directory instead of a gateway"
SETTLE_S: Final = 0.5
"""Seconds between two looks while `put` waits for holders."""


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "volume", "folders that outlive every node: create, put, get, snapshot, recover")
    texts = {
        "create": ("a new, empty volume", run_create),
        "list": ("your volumes", run_list),
        "show": ("versions, snapshots, and how safe they are", run_show),
        "put": ("make a folder the newest version; goes on where it was interrupted", run_put),
        "get": ("copy a version into a folder; goes on where it was interrupted", run_get),
        "ls": ("what is in a version", run_ls),
        "snapshot": ("give a version a name, which keeps it", run_snapshot),
        "rm": ("remove a volume or a snapshot; its shards are given back", run_rm),
        "key": ("print the key that recovers your volumes: keep it safe", run_key),
        "recover": ("find the volumes of a key when the node that kept them is gone", run_recover),
    }
    for name, (text, runner) in texts.items():
        verb = verbs.add_parser(name, parents=[voice], help=text, description=text)
        verb.set_defaults(run=runner)
        add_gateway(verb)
        add_data(verb, DATA_HELP)
        verb.add_argument("--renter", default="me", metavar="NAME", help="with --data: whose (default %(default)s)")
        if name not in ("list", "key", "recover"):
            verb.add_argument("name", help=NAME_HELP)
    _add_flags(verbs)


def _add_flags(verbs: Nouns) -> None:
    put, get, ls = verbs.choices["put"], verbs.choices["get"], verbs.choices["ls"]
    put.add_argument("folder", type=Path, help="what goes in")
    put.add_argument("--snapshot", default="", metavar="NAME", help="name the version at once")
    put.add_argument("--no-wait", action="store_true", help="do not wait until others hold it")
    get.add_argument("folder", type=Path, help="where it goes; made if it is not there")
    for verb in (get, ls):
        verb.add_argument("--version", default="", metavar="WHICH", dest="which", help=WHICH_HELP)
        verb.add_argument("--path", default="", help="only this file or folder of it")
    verbs.choices["snapshot"].add_argument("snapshot", help="the new name")
    verbs.choices["snapshot"].add_argument("--version", default="", metavar="WHICH", dest="which", help=WHICH_HELP)
    remove = verbs.choices["rm"]
    remove.add_argument("--snapshot", default="", metavar="NAME", help="only this snapshot")
    remove.add_argument("-y", "--yes", action="store_true", help="do not ask")
    text = "file with the key that `shoal volume key` printed; - = standard input"
    verbs.choices["recover"].add_argument("key", type=Path, metavar="FILE", help=text)


@contextmanager
def _line(args: argparse.Namespace) -> Iterator[VolumeLine]:
    from shoal.volume_line import GatewayLine, NodeLine

    if args.data is not None:
        with control(args) as node:
            yield NodeLine(node, args.renter)
    else:
        with client(args) as gateway:
            yield GatewayLine(gateway)


def run_create(args: argparse.Namespace, out: Output) -> int:
    """An empty volume; the one that is there stays as it is."""
    with _line(args) as line:
        volume = line.ask("create", name=args.name)
    out.data(volume, lambda: _text(volume))
    return exits.OK


def run_list(args: argparse.Namespace, out: Output) -> int:
    """All of them."""
    with _line(args) as line:
        answer = line.ask("list")
    out.data(answer, lambda: _list_text(answer))
    return exits.OK


def run_show(args: argparse.Namespace, out: Output) -> int:
    """One of them."""
    with _line(args) as line:
        volume = line.ask("show", name=args.name)
    out.data(volume, lambda: _text(volume))
    return exits.OK


def run_put(args: argparse.Namespace, out: Output) -> int:
    """Send what is not there yet, commit, wait for holders."""
    from shoal import volume_transfer

    with _line(args) as line:
        try:
            moved = volume_transfer.put(line, args.name, args.folder, args.snapshot, _Progress(out, "sent"))
        except KeyboardInterrupt:
            out.say("\nstopped: nothing is lost. The same command goes on where it was.")
            return exits.INTERRUPTED
        try:
            volume = line.ask("show", name=args.name) if args.no_wait else _settled(line, args.name, out)
        except KeyboardInterrupt:
            out.say("\nthe version is kept by your node, which goes on looking for holders: `shoal volume show`.")
            return exits.INTERRUPTED
    out.data({**_plain(moved), "volume": volume}, lambda: _moved_text(moved, "sent") + "\n" + _safety(volume))
    return exits.OK


def _settled(line: VolumeLine, name: str, out: Output) -> Plain:
    """Look until others hold it."""
    import time

    told = ""
    while True:
        volume = line.ask("show", name=name)
        if volume.get("is_spread") and volume.get("heads"):
            return volume
        detail = str(volume.get("detail") or ("sealing" if not volume.get("is_sealed") else "waiting for holders"))
        if detail != told:
            out.say(f"{detail} … Ctrl-C does not stop it")
            told = detail
        time.sleep(SETTLE_S)


def run_get(args: argparse.Namespace, out: Output) -> int:
    """Fetch what is not here yet."""
    from shoal import volume_transfer

    with _line(args) as line:
        try:
            progress = _Progress(out, "fetched")
            moved = volume_transfer.get(line, args.name, args.which, args.folder, args.path, progress)
        except KeyboardInterrupt:
            out.say("\nstopped: what is here stays. The same command goes on where it was.")
            return exits.INTERRUPTED
    out.data(_plain(moved), lambda: _moved_text(moved, "fetched"))
    return exits.OK


def run_ls(args: argparse.Namespace, out: Output) -> int:
    """Modes, sizes, names."""
    from shoal import volume_transfer
    from storage import trees

    with _line(args) as line:
        tree = volume_transfer.listed(line, volume_transfer.opened(line, args.name, args.which))
    entries = trees.subtree(tree, args.path.strip("/"))
    rows = [_row(entry) for entry in entries]
    values = [{"path": row[2], "mode": row[0], "size": row[1]} for row in rows]
    out.data({"entries": values}, lambda: table(("mode", "size", "path"), rows, right=(1,)))
    return exits.OK


def _row(entry: object) -> tuple[str, object, str]:
    import stat

    from storage.trees import File, Folder, Link

    if isinstance(entry, File):
        return stat.filemode(stat.S_IFREG | entry.mode), entry.size, entry.path
    if isinstance(entry, Folder):
        return stat.filemode(stat.S_IFDIR | entry.mode), "", entry.path
    assert isinstance(entry, Link)
    return "lrwxrwxrwx", "", f"{entry.path} -> {entry.target}"


def run_snapshot(args: argparse.Namespace, out: Output) -> int:
    """A name for a version."""
    with _line(args) as line:
        answer = line.ask("snapshot", name=args.name, snapshot=args.snapshot, version=args.which)
    version = answer.get("version")
    number = version.get("number") if isinstance(version, dict) else "?"
    out.data(answer, lambda: f"{args.snapshot} is version {number} of {args.name}")
    return exits.OK


def run_rm(args: argparse.Namespace, out: Output) -> int:
    """Ask, then remove."""
    require_answer(args)
    what = f"the snapshot {args.snapshot} of {args.name}" if args.snapshot else f"{args.name} with all its versions"
    if not agreed(f"Remove {what}?", args, out):
        return exits.OK
    with _line(args) as line:
        answer = line.ask("remove", name=args.name, snapshot=args.snapshot)
    out.data(answer, lambda: f"removed: {what}")
    return exits.OK


def run_key(args: argparse.Namespace, out: Output) -> int:
    """On stdout, for a file or a sheet of paper."""
    with _line(args) as line:
        answer = line.ask("key")
    out.say("Whoever has this key can read your volumes and spend your credits. Keep it where no node is.")
    out.data(answer, lambda: str(answer.get("key")))
    return exits.OK


def run_recover(args: argparse.Namespace, out: Output) -> int:
    """On the own node: the key must not travel to a gateway."""
    import sys

    if args.data is None:
        fix = "Add --data DIR: the data directory of a node of yours that runs."
        raise Refused("a key is given to an own node only", code="usage", fix=fix)
    try:
        key = sys.stdin.readline() if str(args.key) == "-" else args.key.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        fix = "Give the file that `shoal volume key` was written to."
        raise Refused(f"{args.key} cannot be read: {error}", code="file_missing", fix=fix) from error
    with _line(args) as line:
        answer = line.ask("recover", key=key.strip())
    found = answer.get("volumes")
    rows = [(v["name"] or v["volume"], v["sequence"], v["problem"] or "here") for v in found or ()]  # type: ignore[attr-defined]
    renter = answer.get("renter")
    tail = f"\nUse them with `--data … --renter {renter}`."
    out.data(answer, lambda: table(("volume", "state", "what"), rows, right=(1,)) + tail)
    return exits.OK if any(row[2] == "here" for row in rows) else exits.REFUSED


class _Progress:
    """One line on stderr that is written anew, where a person watches."""

    def __init__(self, out: Output, verb: str) -> None:
        self._out = out
        self._verb = verb

    def __call__(self, done: int, total: int, moved: int) -> None:
        import sys

        if self._out.is_live:
            percent = 100 * done // total if total else 100
            text = f"{percent:3} %  {size_text(done)} of {size_text(total)}, {self._verb} {size_text(moved)}"
            sys.stderr.write(f"\r{text:<72}" + ("\n" if done >= total else ""))
            sys.stderr.flush()


def _plain(moved: Moved) -> dict[str, object]:
    return {"version": moved.version, "size": moved.size, "moved": moved.moved, "entries": moved.entries}


def _moved_text(moved: Moved, verb: str) -> str:
    number = moved.version.get("number")
    return f"version {number}: {moved.entries} entries, {size_text(moved.size)}; {verb} {size_text(moved.moved)}"


def _list_text(answer: Plain) -> str:
    volumes = answer.get("volumes")
    rows = [
        (v["name"], len(v["versions"]), size_text(v["size"]), len(v["snapshots"]), _safety(v))
        for v in (volumes if isinstance(volumes, list) else [])
    ]
    return table(("volume", "versions", "size", "snapshots", "safety"), rows, right=(1, 2, 3)) or "no volumes yet"


def _text(volume: Plain) -> str:
    versions, snapshots = volume.get("versions"), volume.get("snapshots")
    named = {number: name for name, number in snapshots.items()} if isinstance(snapshots, dict) else {}
    rows = [
        (v["number"], time_text(v["made"]), v["entries"], size_text(v["size"]), named.get(v["number"], ""))
        for v in (versions if isinstance(versions, list) else [])
    ]
    head = pairs([("volume", volume.get("name")), ("id", volume.get("volume")), ("safety", _safety(volume))])
    listed = table(("version", "made", "entries", "size", "snapshot"), rows, right=(0, 2, 3))
    return (
        f"{head}\n\n{listed}" if rows else f"{head}\n\nempty: `shoal volume put {volume.get('name')} FOLDER` fills it"
    )


def _safety(volume: Plain) -> str:
    """In plain words how safe it is."""
    if not volume.get("versions"):
        return "empty"
    where = f"shards at {volume.get('holders')} peers, head at {volume.get('heads')}"
    if volume.get("is_durable"):
        return f"durable: {where}"
    if volume.get("is_spread"):
        return f"kept by others, not proven durable: {where}; {volume.get('detail')}"
    return f"at this node only: {volume.get('detail') or 'being sealed'}"
