"""How one text is written: its words, sentences, and the words that it uses most."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path


def main() -> None:
    """Print the figures of the text named on the command line, as JSON."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    words = [word.lower() for word in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text)]
    sentences = [part for part in re.split(r"[.!?]+(?:\s|$)", text) if part.strip()]
    shortest = int(os.environ.get("SHORTEST", "4"))
    common = Counter(word for word in words if len(word) >= shortest)
    figures = {
        "text": Path(sys.argv[1]).stem,
        "words": len(words),
        "different": len(set(words)),
        "sentences": len(sentences),
        "words_per_sentence": round(len(words) / max(1, len(sentences)), 2),
        "common": sorted(common.items(), key=lambda pair: (-pair[1], pair[0])),
    }
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
