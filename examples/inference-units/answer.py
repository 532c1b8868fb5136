"""Answers every line of prompts.txt with a small transformer in integers, in units that anybody can check."""

from __future__ import annotations

from pathlib import Path

import shoal_work
from shoal_work import inference, int8_model

STOP = 95
"""The end of a line; tokens 0 to 94 are the printable characters."""


def main() -> None:
    """Compute, or replay, as the node asks."""
    here = Path(__file__).parent
    prompts = (here / "prompts.txt").read_text(encoding="ascii").split("\n")[:-1]
    tokens = [[ord(character) - 32 for character in prompt] for prompt in prompts]
    options = inference.Options(STOP, longest=100, together=3)
    shoal_work.run(
        inference.InferenceWork(
            int8_model.load(here / "large.safetensors"), tokens, inference.Sampling(0.8, top_k=40), options
        )
    )


if __name__ == "__main__":
    main()
