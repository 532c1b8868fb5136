"""specs/00-overview.md lists every document, and its glossary has one word per idea."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import specs

ROOT: Final = Path(__file__).parent.parent.parent
GLOSSARY: Final = specs.load("00-overview").table("glossary")


def test_every_document_is_listed_once_in_order() -> None:
    text = (specs.FOLDER / "00-overview.md").read_text(encoding="utf-8")
    listed = re.findall(r"\]\((\d\d-[a-z-]+)\.md\)", text)
    assert listed == [name for name in specs.names() if name != "00-overview"]


def test_documents_carry_the_title_that_is_listed() -> None:
    text = (specs.FOLDER / "00-overview.md").read_text(encoding="utf-8")
    for title, name in re.findall(r"\[([^\]]+)\]\((\d\d-[a-z-]+)\.md\)", text):
        first = (specs.FOLDER / f"{name}.md").read_text(encoding="utf-8").splitlines()[0]
        assert first.lstrip("# ").replace("`", "").startswith(title), f"specs/{name}.md opens with {first!r}"


def test_a_word_means_one_thing() -> None:
    words = [row["word"] for row in GLOSSARY]
    assert len(words) == len(set(words))
    avoided = {word.strip() for row in GLOSSARY for word in row["never"].split(",")}
    assert not avoided & set(words), "a word cannot be both wanted and avoided"


def test_words_are_those_of_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "protocol").glob("*.py"))).lower()
    unknown = [row["word"] for row in GLOSSARY if row["word"] not in code]
    assert not unknown, f"the protocol never says {unknown}"
