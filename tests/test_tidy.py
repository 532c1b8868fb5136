"""The house rules, as a test. Loans are named below and may only shrink: never raise a number to get a change in."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("shoal", "node", "protocol", "verifier", "storage", "gateway", "simulations")
FOLDERS: Final = (*PACKAGES, "specs", "tests", "examples", "benchmarks", "docs", "packaging")

FUNCTION_LINES_MAX: Final = 70
"""A function that does not fit on a screen hides a second one. Aim for 40."""
FILE_LINES_MAX: Final = 400
"""Aim for 80 to 250."""
TEST_LINES_MAX: Final = 500
"""A table of cases may be long; a test that is not one is split by subject."""
CLASS_METHODS_MAX: Final = 25
"""Aim for 15. A machine has a private method per message besides its two doors."""
BROAD_EXCEPT_MAX: Final = 5
"""`except Exception` stands at a rim only: the node's tasks, a control request, an HTTP request, foreign code."""
TEST_SLEEPS_MAX: Final = 6
"""A sleep in a test hides a race or wastes time; these are waits in a loop on another process."""
SLEEP_S_MAX: Final = 0.25

LOANS: Final[dict[str, int]] = {}
"""`path` or `path::function` -> lines, `path::Class` -> methods that it may have for now, above the limits."""

AGAINST_THE_WHOLE: Final = (
    "end_to_end", "bad_input", "interop", "netlab", "attacks", "failures", "soak", "corpus", "adversarial",
    "engines",
)  # fmt: skip
"""Tests of running nodes, which mirror no folder."""

BANNED_NAMES: Final = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "managers"}
UNFINISHED: Final = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
MACHINE_PATH: Final = re.compile(r"(?<![\w.])/(?:work|root|home/\w+)(?:/|\b)")
MACHINE_PATH_ALLOWED: Final = re.compile(r"/(root|work)\b(?=[^\n]*# a path inside a sandbox)")


KINDS: Final = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".html", ".css", ".service", ".spec", ".c"}
NOT_OURS: Final = {"__pycache__", "node_modules"}


@dataclass(slots=True)
class Facts:
    """What the rules ask of one file of Python; read once, since all trees at once would fill the memory."""

    path: Path
    lines: int
    statements: int
    has_docstring: bool
    functions: list[tuple[str, int]] = field(default_factory=list)
    """Name and lines of each."""
    classes: list[tuple[str, int]] = field(default_factory=list)
    """Name and methods of each."""
    broad: list[int] = field(default_factory=list)
    """Lines of `except Exception` that do not raise again."""
    sleeps: list[tuple[int, str, float]] = field(default_factory=list)
    """Line, text and seconds (0: not said) of each."""


@cache
def files_below() -> tuple[Path, ...]:
    """Every file of ours in FOLDERS."""
    found: list[Path] = []
    for folder in FOLDERS:
        for place, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name not in NOT_OURS]
            found += [Path(place, name) for name in names]
    return tuple(sorted(found))


@cache
def python_files() -> tuple[Facts, ...]:
    return tuple(facts_of(path) for path in files_below() if path.suffix == ".py")


def facts_of(path: Path) -> Facts:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    docstring = (ast.get_docstring(tree) or "").strip()
    facts = Facts(path, len(text.splitlines()), len(tree.body), bool(docstring))
    for item in ast.walk(tree):
        match item:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                facts.functions.append((item.name, lines_of(item)))
            case ast.ClassDef():
                facts.classes.append((item.name, methods_of(item)))
            case ast.ExceptHandler() if is_broad(item):
                facts.broad.append(item.lineno)
            case ast.Call(func=ast.Attribute(ast.Name("time" | "trio" | "asyncio"), "sleep")):
                said = item.args[0].value if item.args and isinstance(item.args[0], ast.Constant) else 0
                seconds = said if isinstance(said, int | float) else 0
                facts.sleeps.append((item.lineno, ast.unparse(item), seconds))
    return facts


def is_broad(item: ast.ExceptHandler) -> bool:
    catches_all = item.type is None or ast.unparse(item.type) in ("Exception", "BaseException")
    return catches_all and not any(isinstance(part, ast.Raise) and part.exc is None for part in item.body)


@cache
def text_files() -> tuple[Path, ...]:
    below = [path for path in files_below() if path.suffix in KINDS]
    top = [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
        *(ROOT / "changes").glob("*"),
    ]
    return tuple(sorted(path for path in {*below, *top} if path.is_file()))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_of(item: ast.stmt) -> int:
    return (item.end_lineno or item.lineno) - item.lineno + 1


def is_test(path: Path) -> bool:
    return ROOT / "tests" in path.parents


def limit_of(path: Path) -> int:
    return TEST_LINES_MAX if is_test(path) else FILE_LINES_MAX


def methods_of(item: ast.ClassDef) -> int:
    return sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in item.body)


def complain(faults: list[str], fix: str) -> None:
    assert not faults, f"{fix}:\n  " + "\n  ".join(faults)


def test_functions_fit_on_a_screen() -> None:
    faults = [
        f"{name_of(file.path)}::{name} has {lines} lines"
        for file in python_files()
        for name, lines in file.functions
        if lines > LOANS.get(f"{name_of(file.path)}::{name}", FUNCTION_LINES_MAX)
    ]
    complain(faults, f"split these, {FUNCTION_LINES_MAX} lines are the limit")


def test_files_hold_one_thing() -> None:
    faults = [
        f"{name_of(file.path)} has {file.lines} lines"
        for file in python_files()
        if file.lines > LOANS.get(name_of(file.path), limit_of(file.path))
    ]
    complain(faults, f"split these, {FILE_LINES_MAX} lines are the limit, {TEST_LINES_MAX} for tests")


def test_classes_stay_small() -> None:
    faults = [
        f"{name_of(file.path)}::{name} has {count} methods"
        for file in python_files()
        if not is_test(file.path)  # A machine that Hypothesis drives has a method per rule.
        for name, count in file.classes
        if count > LOANS.get(f"{name_of(file.path)}::{name}", CLASS_METHODS_MAX)
    ]
    complain(faults, "split these")


def test_loans_are_still_needed() -> None:
    sizes = {name_of(file.path): file.lines for file in python_files()}
    for file in python_files():
        sizes |= {f"{name_of(file.path)}::{name}": size for name, size in [*file.functions, *file.classes]}
    complain([f"{k}: {v} lent, {sizes.get(k, 0)} used" for k, v in LOANS.items() if sizes.get(k, 0) < v], "lower these")


def test_names_say_what_a_thing_is() -> None:
    paths = [file.path for file in python_files()]
    faults = [name_of(path) for path in paths if BANNED_NAMES & {path.stem, *path.relative_to(ROOT).parts}]
    complain(faults, "name these after the noun they hold")


def test_every_module_opens_with_what_it_is() -> None:
    faults = [name_of(file.path) for file in python_files() if not file.has_docstring]
    complain(faults, "these lack a docstring that says what the module is")


def test_init_files_are_a_docstring() -> None:
    inits = [file for file in python_files() if file.path.name == "__init__.py" and file.path.parent != ROOT / "specs"]
    complain([name_of(file.path) for file in inits if file.statements > 1], "an __init__.py is one docstring")
    below = [name_of(file.path) for file in inits if is_test(file.path)]
    complain(below, "a package below tests/ shadows the one it tests: remove these")


def test_packages_have_an_init_and_other_folders_none() -> None:
    complain([name for name in PACKAGES if not (ROOT / name / "__init__.py").is_file()], "these need a docstring file")
    loose = [name for name in ("docs", "examples", "benchmarks", "packaging") if (ROOT / name / "__init__.py").exists()]
    complain(loose, "these are folders, not packages")


def test_broad_excepts_are_counted() -> None:
    broad = [f"{name_of(file.path)}:{line}" for file in python_files() for line in file.broad]
    if len(broad) > BROAD_EXCEPT_MAX:
        complain(broad, f"catch what you expect; {BROAD_EXCEPT_MAX} broad except is allowed")


def test_tests_do_not_sleep() -> None:
    sleeps: list[str] = []
    for file in python_files():
        if not is_test(file.path) or not file.path.name.startswith(("test_", "conftest")):
            continue  # What a test runs as a child, such as a probe of the sandbox, may sleep.
        for line, text, seconds in file.sleeps:
            sleeps.append(f"{name_of(file.path)}:{line} {text}")
            assert seconds <= SLEEP_S_MAX, f"{sleeps[-1]}: wait for the condition instead"
    if len(sleeps) > TEST_SLEEPS_MAX:
        complain(sleeps, f"wait for the condition instead; {TEST_SLEEPS_MAX} sleeps are allowed")


def test_nothing_is_left_for_later() -> None:
    complain(matches(UNFINISHED), "finish these, or write an issue")


def test_no_path_of_one_machine() -> None:
    complain(matches(MACHINE_PATH, MACHINE_PATH_ALLOWED), "these paths exist on one machine only")


def matches(pattern: re.Pattern[str], allowed: re.Pattern[str] | None = None) -> list[str]:
    return [
        f"{name_of(path)}:{number} {line.strip()[:100]}"
        for path in text_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line) and not (allowed and allowed.search(line))
    ]


def test_no_dependency_claims_one_of_our_names() -> None:
    ours = {*PACKAGES, "specs"}
    faults = [
        f"{name} from {', '.join(sorted(set(distributions)))}"
        for name, distributions in importlib.metadata.packages_distributions().items()
        if name in ours and set(distributions) != {"shoal"}
    ]
    complain(faults, "a dependency owns a top-level name of ours")


def test_every_spec_has_a_test() -> None:
    specs = sorted(path.stem for path in (ROOT / "specs").glob("[0-9][0-9]-*.md"))
    assert specs, "no specification found"
    wanted = {name: ROOT / "tests" / "specs" / f"test_{name.replace('-', '_')}.py" for name in specs}
    complain([f"specs/{name}.md" for name, test in wanted.items() if not test.is_file()], "no test executes these")
    numbers = [name[:2] for name in specs]
    complain([n for n in set(numbers) if numbers.count(n) > 1], "two specifications share a number")


def test_tests_mirror_modules() -> None:
    strays = [
        name_of(path)
        for path in (ROOT / "tests").glob("*/**/test_*.py")
        if path.relative_to(ROOT / "tests").parts[0] not in (*FOLDERS, *AGAINST_THE_WHOLE)
    ]
    complain(strays, "tests/<folder>/ mirrors a folder of the repository")
