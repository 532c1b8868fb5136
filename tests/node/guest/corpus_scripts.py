"""The scripts of tests/corpus/: what each is about, what it needs, and what is known to fail."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
FOLDER: Final = ROOT / "tests" / "corpus"
ENDING: Final = FOLDER / "ending.py"
"""What all scripts import to write their last state; it is laid beside each."""

PLAIN, FRAMEWORKS = ".venv-torch", ".venv-corpus"
"""The runtime that a node offers, and one with the training frameworks on top (tests/corpus/README.md)."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script. `steps`: how many steps (or rounds) it makes, roughly: where kills are drawn from."""

    name: str
    steps: int
    venv: str = PLAIN
    needs: tuple[str, ...] = ("torch",)
    fails: str = ""
    """Why it is known not to come back bit-identical; such a test must fail, so that a repair is noticed."""

    @property
    def main(self) -> Path:
        """The file that is run."""
        folder = FOLDER / self.name
        return folder / "main.py" if folder.is_dir() else FOLDER / f"{self.name}.py"

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is laid out beside it."""
        beside = sorted(self.main.parent.glob("*.py")) if self.main.name == "main.py" else [self.main]
        return (*beside, ENDING)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return ROOT / self.venv / "bin" / "python"

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        text = ast.get_docstring(ast.parse(self.main.read_text(encoding="utf-8"))) or ""
        return text.split("\n", 1)[0].rstrip(".")

    def why_not(self) -> str:
        """Why it cannot run here; empty when it can."""
        if not self.python.exists():
            return f"there is no {self.venv}: tests/corpus/README.md says how to make it"
        packages = next((self.python.parent.parent / "lib").glob("python3*/site-packages"))
        missing = [name for name in self.needs if not (packages / name).exists()]
        return f"{self.venv} lacks {', '.join(missing)}" if missing else ""


QUICK: Final = frozenset(
    """
    for_range enumerate_loader while_counter while_true_break nested_loops generator_batches itertools_loop
    comprehension_steps class_trainer second_module grad_scaler gradient_accumulation one_cycle ema custom_sampler
    worker_loader iterable_dataset numpy_augment lbfgs_closure lora tiny_gpt lstm_carry metrics_csv best_checkpoint
    sklearn_partial_fit numpy_sgd evolution monte_carlo
    """.split()  # noqa: SIM905  a list of words is read more easily
)
"""What every test run kills, in a minute of one core: four processes load torch, and most scripts are forks of these.
All the others repeat the ground of one of these, or need an environment of their own; SHOAL_LONG=1 and `make corpus`
run them too."""

SCRIPTS: Final = (
    Script("for_range", 900),
    Script("enumerate_loader", 480),
    Script("zip_loaders", 384),
    Script("while_counter", 800),
    Script("while_true_break", 900),
    Script("walrus_iterator", 400),
    Script("nested_loops", 400),
    Script("generator_batches", 600),
    Script("itertools_loop", 820),
    Script("comprehension_steps", 600),
    Script("class_trainer", 480),
    Script("second_module", 500),
    Script("argparse_main", 360),
    Script("amp_bfloat16", 320),
    Script("grad_scaler", 480),
    Script("gradient_accumulation", 165),
    Script("one_cycle", 390),
    Script("cosine_restarts", 416),
    Script("reduce_on_plateau", 520),
    Script("ema", 550),
    Script("early_stopping", 240),
    Script("custom_sampler", 400),
    Script("worker_loader", 120),
    Script("worker_augment", 210, fails="the random streams inside persistent workers are not in a snapshot"),
    Script("weighted_sampler", 450),
    Script("iterable_dataset", 450),
    Script("numpy_augment", 220),
    Script("lbfgs_closure", 90),
    Script("gan", 900),
    Script("lora", 108),
    Script("tiny_gpt", 140),
    Script("lstm_carry", 144),
    Script("replay_rl", 400),
    Script("torch_func", 250),
    Script("k_fold", 600),
    Script("metrics_csv", 432),
    Script("best_checkpoint", 480),
    Script("own_checkpoint", 420),
    Script("closures", 450),
    Script("vae", 240),
    Script("sparse_embedding", 700),
    Script("swa", 416),
    Script("maml", 130),
    Script("sklearn_partial_fit", 336, needs=("sklearn",)),
    Script("numpy_sgd", 24_000, needs=("numpy",)),
    Script("evolution", 31_000, needs=("numpy",)),
    Script("monte_carlo", 580_000, needs=()),
    Script("tqdm_loop", 480, FRAMEWORKS, ("torch", "tqdm")),
    Script(
        "hf_trainer",
        64,
        FRAMEWORKS,
        ("torch", "transformers", "accelerate"),
        fails="the Trainer reads its batches through a generator of accelerate's, whose frame is not in a snapshot",
    ),
    Script("accelerate_loop", 200, FRAMEWORKS, ("torch", "accelerate")),
    Script("lightning_trainer", 200, FRAMEWORKS, ("torch", "lightning")),
)
