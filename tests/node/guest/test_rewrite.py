"""Rewritten modules do what the originals do; the hook's files are Python 3.9."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import traceback
from pathlib import Path

import pytest

from node.guest.hook import rewrite

HOOK = Path(rewrite.__file__).parent
PROGRAMS = {
    "else": "for i in range(3):\n    if i == 5: break\nelse:\n    print('whole')\n",
    "break and continue": "for i in range(9):\n    if i == 2: continue\n    if i == 5: break\n    print(i)\nprint(i)\n",
    "while else": "n = 3\nwhile n:\n    n -= 1\nelse:\n    print('done', n)\n",
    "return": "def f():\n    for i in [1, 2]:\n        while True:\n            return i\nprint(f())\n",
    "generator": "def g():\n    for i in range(3):\n        yield i\nprint(list(g()), sum(g()))\n",
    "class body": "class A:\n    for name in 'ab':\n        locals()[name] = 1\n"
    "print(A.a, hasattr(A, '__shoal_h0__'))\n",
    "method": "class A:\n    def __f(self):\n        for i in range(2):\n            print(i)\n    f = __f\nA().f()\n",
    "globals": "k = v = None\nfor k, v in list(globals().items()):\n    x = 1\nprint(x)\n",
    "future": "'doc'\nfrom __future__ import annotations\nfor i in range(1):\n    print(__doc__, i)\n",
    "walrus": "it = iter([1, 2, 0])\nwhile (n := next(it)):\n    print(n)\n",
    "try": "for i in range(2):\n    try:\n        for j in range(2):\n            raise KeyError(j)\n"
    "    except KeyError as e:\n        print(e)\n",
    "match": "for i in range(2):\n    match i:\n        case 0:\n            for j in range(2): print(j)\n"
    "        case _:\n            print('other')\n",
}  # fmt: skip


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, object] = {
        "__shoal_iter__": lambda iterable, index: iter(iterable), "__shoal_while__": lambda index: 0,
        "__shoal_head__": lambda index: 0, "__shoal_tick__": lambda: None,
        "__shoal_due__": True,
    }  # fmt: skip
    for name, value in found.items():
        monkeypatch.setattr(builtins, name, value, raising=False)


def run(code: ast.Module | str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, "program", "exec", dont_inherit=True), {"__name__": "program"})
    return shown.getvalue()


@pytest.mark.parametrize("source", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_it_prints_what_the_original_prints(source: str) -> None:
    assert run(rewrite.rewrite(source, "program")) == run(source) != ""


def test_tracebacks_name_the_lines_of_the_source() -> None:
    source = "def f(n):\n    while n:\n        n -= 1\n        for i in range(2):\n            1 / 0\n\n\nf(3)\n"
    with pytest.raises(ZeroDivisionError) as caught:
        run(rewrite.rewrite(source, "program"))
    assert [place.lineno for place in traceback.extract_tb(caught.tb) if place.filename == "program"] == [8, 5]


def test_a_name_tells_its_number() -> None:
    assert rewrite.index_of(rewrite.hidden(12)) == 12
    assert rewrite.index_of("hidden") == rewrite.index_of("__shoal_hx__") == -1


def test_the_hook_is_python_3_9() -> None:
    files = sorted(HOOK.glob("*.py"))
    assert len(files) > 15
    for path in files:
        tree = ast.parse(path.read_text(), str(path), feature_version=(3, 9))
        matches = [item for item in ast.walk(tree) if item.__class__.__name__ == "Match"]
        assert not matches, path
