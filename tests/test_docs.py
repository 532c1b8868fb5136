"""The documents hold together: every relative link and anchor leads somewhere, and the picture is the code's."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")
SKIPPED_FOLDERS: Final = {"build", "dist", "var", "node_modules"}


@cache
def documents() -> tuple[Path, ...]:
    """All that are ours. A folder that is skipped is not walked: environments have a hundred thousand files."""
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in names if name.endswith(".md")]
    return tuple(sorted(found))


def links(path: Path) -> Iterator[str]:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    return (first or second for first, second in LINK.findall(text))


def anchors(path: Path) -> set[str]:
    """The anchors that a reader's browser finds: GitHub's rule for headings, and explicit ids."""
    found: set[str] = set()
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#+\s+(.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (candidate := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(candidate)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    broken: list[str] = []
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        target_text, _, anchor = link.partition("#")
        target = (path.parent / target_text).resolve() if target_text else path
        if not target.is_relative_to(ROOT) or not target.exists():
            broken.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            broken.append(f"{link}: no such heading")
    assert not broken, f"{path.relative_to(ROOT)} has broken links:\n  " + "\n  ".join(broken)


def test_every_guide_is_reached_from_the_index() -> None:
    listed = {link.partition("#")[0] for link in links(ROOT / "docs" / "index.md")}
    guides = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert guides <= listed, f"docs/index.md does not mention {sorted(guides - listed)}"


def test_architecture_picture_is_current() -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    committed = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    assert draw["picture"]() == committed, "the imports changed: run `make picture`"


def test_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['version']}\n" in citation
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every `shoal noun verb` that the documents name."""
    texts = [path.read_text(encoding="utf-8") for path in documents() if path.parent in (ROOT, ROOT / "docs")]
    command = re.compile(r"(?:^|`)shoal ([a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*)?)", re.MULTILINE)
    named = {found for text in texts for found in command.findall(text)}
    return sorted(named)


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_documents_exist(command: str) -> None:
    asked = [sys.executable, "-m", "shoal", *command.split(), "--help"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in documents():
        named = set(re.findall(r"`make ([a-z]+)", path.read_text(encoding="utf-8")))
        named |= set(re.findall(r"^make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, f"{path.relative_to(ROOT)} names {sorted(named - targets)}, which the Makefile lacks"
