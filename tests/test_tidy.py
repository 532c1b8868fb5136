"""The house rules, as a test. Loans are named below and may only shrink: never raise a number to get a change in."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

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


def python_files() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]
    return sorted(found)


def text_files() -> list[Path]:
    kinds = ("*.py", "*.md", "*.toml", "*.yml", "*.yaml", "*.sh", "*.html", "*.css", "*.service", "*.spec", "*.c")
    below = [path for folder in FOLDERS for kind in kinds for path in (ROOT / folder).rglob(kind)]
    top = [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
        *(ROOT / "changes").glob("*"),
    ]
    return sorted(path for path in {*below, *top} if path.is_file() and "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))


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
        f"{name_of(path)}::{item.name} has {lines_of(item)} lines"
        for path in python_files()
        for item in functions(parse(path))
        if lines_of(item) > LOANS.get(f"{name_of(path)}::{item.name}", FUNCTION_LINES_MAX)
    ]
    complain(faults, f"split these, {FUNCTION_LINES_MAX} lines are the limit")


def test_files_hold_one_thing() -> None:
    counted = [(path, len(path.read_text(encoding="utf-8").splitlines())) for path in python_files()]
    faults = [f"{name_of(path)} has {n} lines" for path, n in counted if n > LOANS.get(name_of(path), limit_of(path))]
    complain(faults, f"split these, {FILE_LINES_MAX} lines are the limit, {TEST_LINES_MAX} for tests")


def test_classes_stay_small() -> None:
    faults = [
        f"{name_of(path)}::{item.name} has {count} methods"
        for path in python_files()
        if not is_test(path)  # A machine that Hypothesis drives has a method per rule.
        for item in ast.walk(parse(path))
        if isinstance(item, ast.ClassDef)
        and (count := methods_of(item)) > LOANS.get(f"{name_of(path)}::{item.name}", CLASS_METHODS_MAX)
    ]
    complain(faults, "split these")


def test_loans_are_still_needed() -> None:
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    for path in python_files():
        for item in ast.walk(parse(path)):
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                sizes[f"{name_of(path)}::{item.name}"] = lines_of(item)
            elif isinstance(item, ast.ClassDef):
                sizes[f"{name_of(path)}::{item.name}"] = methods_of(item)
    complain([f"{k}: {v} lent, {sizes.get(k, 0)} used" for k, v in LOANS.items() if sizes.get(k, 0) < v], "lower these")


def test_names_say_what_a_thing_is() -> None:
    faults = [name_of(path) for path in python_files() if BANNED_NAMES & {path.stem, *path.relative_to(ROOT).parts}]
    complain(faults, "name these after the noun they hold")


def test_every_module_opens_with_what_it_is() -> None:
    faults = [name_of(path) for path in python_files() if not (ast.get_docstring(parse(path)) or "").strip()]
    complain(faults, "these lack a docstring that says what the module is")


def test_init_files_are_a_docstring() -> None:
    inits = [path for path in python_files() if path.name == "__init__.py" and path.parent != ROOT / "specs"]
    complain([name_of(path) for path in inits if len(parse(path).body) > 1], "an __init__.py is one docstring")
    below = [name_of(path) for path in inits if ROOT / "tests" in path.parents]
    complain(below, "a package below tests/ shadows the one it tests: remove these")


def test_packages_have_an_init_and_other_folders_none() -> None:
    complain([name for name in PACKAGES if not (ROOT / name / "__init__.py").is_file()], "these need a docstring file")
    loose = [name for name in ("docs", "examples", "benchmarks", "packaging") if (ROOT / name / "__init__.py").exists()]
    complain(loose, "these are folders, not packages")


def test_broad_excepts_are_counted() -> None:
    broad = [
        f"{name_of(path)}:{item.lineno}"
        for path in python_files()
        for item in ast.walk(parse(path))
        if isinstance(item, ast.ExceptHandler)
        and (item.type is None or ast.unparse(item.type) in ("Exception", "BaseException"))
        and not any(isinstance(part, ast.Raise) and part.exc is None for part in item.body)
    ]
    if len(broad) > BROAD_EXCEPT_MAX:
        complain(broad, f"catch what you expect; {BROAD_EXCEPT_MAX} broad except is allowed")


def test_tests_do_not_sleep() -> None:
    sleeps: list[str] = []
    for path in python_files():
        if not is_test(path) or not path.name.startswith(("test_", "conftest")):
            continue  # What a test runs as a child, such as a probe of the sandbox, may sleep.
        for item in ast.walk(parse(path)):
            if isinstance(item, ast.Call) and ast.unparse(item.func) in ("time.sleep", "trio.sleep", "asyncio.sleep"):
                sleeps.append(f"{name_of(path)}:{item.lineno} {ast.unparse(item)}")
                seconds = item.args[0].value if item.args and isinstance(item.args[0], ast.Constant) else 0
                if isinstance(seconds, int | float) and seconds > SLEEP_S_MAX:
                    pytest.fail(f"{sleeps[-1]}: wait for the condition instead")
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
