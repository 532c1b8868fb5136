"""A result on disk against a receipt: are these the files that were judged and paid?"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from blake3 import blake3

from protocol.errors import Refused
from protocol.jobspec import OutputFile
from protocol.units import Digest
from shoal.receipt_account import Account
from shoal.receipts import output_of


def verify_folder(account: Account, folder: Path) -> int:
    """How many chunks' results lie there: all files together are that of the step that joins the others, or each folder
    `0`, `1`, … that of a chunk. `Refused` (`result_false`) when a file was changed, added or left out."""
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder", code="file_missing", fix="Give the folder of `shoal job result --to`.")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    judged = account.outputs()
    if files and _digest_of(folder, files) in judged.values():
        return 1
    by_chunk: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_chunk[path.relative_to(folder).parts[0]].append(path)
    for name, found in by_chunk.items():
        expected = judged.get(int(name)) if re.fullmatch(r"\d{1,4}", name) else None
        if expected is None or _digest_of(folder / name, found) != expected:
            raise _false(f"{folder / name}: these are not the files that were judged and paid")
    if not by_chunk:
        raise _false(f"there is no file in {folder}")
    return len(by_chunk)


def _digest_of(folder: Path, files: list[Path]) -> Digest:
    return output_of(_listed(folder, path) for path in files)


def _listed(folder: Path, path: Path) -> OutputFile:
    digest = blake3(max_threads=blake3.AUTO).update_mmap(path).digest()
    return OutputFile(path.relative_to(folder).as_posix(), digest, path.stat().st_size)


def _false(what: str) -> Refused:
    return Refused(what, code="result_false", fix="Get the result again with `shoal job result JOB --to` a new folder.")
