"""One table of all texts, and the words that they have in common, from what the chunks wrote."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path


def main() -> None:
    """Read `chunks/<i>/*.json`, write `table.csv` and `words.json`."""
    folder, out = Path(os.environ["SHOAL_IN"]) / "chunks", Path(os.environ["SHOAL_OUT"])
    texts = sorted((json.loads(path.read_text()) for path in folder.glob("*/*.json")), key=lambda text: text["text"])
    columns = ("text", "words", "different", "sentences", "words_per_sentence")
    lines = [",".join(columns), *(",".join(str(text[column]) for column in columns) for text in texts)]
    (out / "table.csv").write_text("\n".join(lines) + "\n")
    total: Counter[str] = Counter()
    for text in texts:
        total.update(dict(text["common"]))
    common = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:50]
    (out / "words.json").write_text(json.dumps(dict(common), indent=1, ensure_ascii=False) + "\n")
    word, times = common[0]
    print(f"{len(texts)} texts, {sum(text['words'] for text in texts)} words, most used: {word} ({times} times)")


if __name__ == "__main__":
    main()
