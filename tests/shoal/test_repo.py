"""`repo:` of a job file, against real repositories: what is fetched, what is refused, and in which words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from protocol.errors import Refused, Unavailable
from protocol.jobspec import FILES_MAX, JobSpec
from shoal import repo
from shoal.jobfile import JobFile, read
from storage import trees

HEAD = "type: task\nname: coded\ncommands: [python main.py]\n"


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same git everywhere: no configuration of this machine's user."""
    config = tmp_path / "gitconfig"
    config.write_text("[user]\nname = t\nemail = t@example.org\n[init]\ndefaultBranch = main\n"
                      "[uploadpack]\nallowFilter = true\nallowAnySHA1InWant = true\n")  # fmt: skip
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, message: str = "more") -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A repository with two folders, a program, and a big file in another folder."""
    top = tmp_path / "upstream" / "code"
    (top / "training" / "deep").mkdir(parents=True)
    (top / "data").mkdir()
    (top / "training" / "main.py").write_text("print('one')\n")
    (top / "training" / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (top / "training" / "deep" / "run.sh").chmod(0o755)
    (top / "data" / "big.bin").write_bytes(os.urandom(300_000))
    git(top, "init", "--quiet")
    commit(top, "first")
    git(top, "tag", "v1")
    return top


def load(text: str, tmp_path: Path) -> JobFile:
    (tmp_path / "job").mkdir(exist_ok=True)
    return read(HEAD + text, tmp_path / "job", {}, cache=tmp_path / "cache")


def paths(spec: JobSpec) -> list[str]:
    return [file.path for file in spec.files]


def env(spec: JobSpec) -> dict[str, str]:
    return dict(spec.env)


def test_only_the_wanted_folder_of_a_tag_is_fetched(code: Path, tmp_path: Path) -> None:
    first = git(code, "rev-parse", "v1")
    (code / "training" / "main.py").write_text("print('two')\n")
    second = commit(code)
    text = f"repo: {{url: 'file://{code}', ref: v1, path: training}}\n"
    loaded = load(text, tmp_path)
    assert paths(loaded.spec) == ["training/deep/run.sh", "training/main.py"]
    assert [file.executable for file in loaded.spec.files] == [True, False]
    assert env(loaded.spec)["SHOAL_COMMIT"] == first
    assert loaded.files[1].source.read_text() == "print('one')\n"
    store = next((tmp_path / "cache" / "repos").iterdir()) / "git"
    big = git(code, "rev-parse", "HEAD:data/big.bin")
    here = subprocess.run(["git", "cat-file", "--batch-check"], cwd=store, input=big, capture_output=True, text=True,
                          env=os.environ | {"GIT_NO_LAZY_FETCH": "1"}, check=False)  # fmt: skip
    size = sum(path.stat().st_size for path in store.rglob("*.pack"))
    assert size < 100_000, (size, here.stdout, "the other folder's content was not asked for")
    newest = load(f"repo: file://{code}@main\n", tmp_path)
    assert env(newest.spec)["SHOAL_COMMIT"] == second
    assert "code/data/big.bin" in paths(newest.spec)


def test_a_commit_that_is_known_is_not_asked_for_again(code: Path, tmp_path: Path) -> None:
    first = git(code, "rev-parse", "HEAD")
    text = f"repo: {{url: 'file://{code}', ref: {first}, at: .}}\n"
    loaded = load(text, tmp_path)
    code.rename(code.with_name("moved"))
    again = load(text, tmp_path)
    assert again.spec == loaded.spec
    assert "training/main.py" in paths(again.spec)


def test_a_work_tree_gives_what_git_does_not_ignore(code: Path, tmp_path: Path) -> None:
    (code / ".gitignore").write_text("*.log\nenv/\n")
    first = commit(code)
    assert env(load(f"repo: {code}\n", tmp_path).spec)["SHOAL_COMMIT"] == first
    (code / "noise.log").write_text("x")
    (code / "env").mkdir()
    (code / "env" / "python").symlink_to("/usr/bin/python3")
    (code / "new.py").write_text("y")
    (code / "data" / "big.bin").unlink()
    loaded = load(f"repo: {code}\n", tmp_path)
    assert paths(loaded.spec) == [
        "code/.gitignore",
        "code/new.py",
        "code/training/deep/run.sh",
        "code/training/main.py",
    ]
    assert env(loaded.spec)["SHOAL_COMMIT"] == f"{first}-dirty"


def test_a_folder_without_git_gives_all_files(tmp_path: Path) -> None:
    (tmp_path / "plain" / "__pycache__").mkdir(parents=True)
    (tmp_path / "plain" / "a.py").write_text("x")
    (tmp_path / "plain" / "__pycache__" / "a.pyc").write_text("x")
    loaded = load(f"repo: {{url: {tmp_path / 'plain'}, at: here}}\n", tmp_path)
    assert paths(loaded.spec) == ["here/a.py"] and "SHOAL_COMMIT" not in env(loaded.spec)


def test_many_files_and_links_travel_as_one_tree(code: Path, tmp_path: Path) -> None:
    (code / "link").symlink_to("training/main.py")
    for number in range(FILES_MAX + 1):
        (code / "data" / f"{number:05}").write_text(str(number))
    commit(code)
    loaded = load(f"repo: {{url: 'file://{code}'}}\n", tmp_path)
    (tree,) = loaded.spec.mounts
    assert (loaded.spec.files, tree.mount, tree.volume) == ((), "/in/code", "")
    by_name = {bytes(file.ref.digest): file.source for file in loaded.files}
    listed = trees.decode(by_name[tree.digest].read_bytes())
    assert trees.Link("link", "training/main.py") in listed.entries
    assert {piece.digest for piece in listed.pieces} <= by_name.keys()
    assert load(f"repo: {{url: 'file://{code}'}}\n", tmp_path).spec == loaded.spec


def test_submodules_are_told_and_not_followed(code: Path, tmp_path: Path) -> None:
    other = tmp_path / "upstream" / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "x").write_text("x")
    commit(other)
    git(code, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "vendor")
    commit(code)
    loaded = load(f"repo: file://{code}\n", tmp_path)
    assert loaded.notes == ("vendor is a submodule and is not followed",)
    assert not [path for path in paths(loaded.spec) if path.startswith("code/vendor")]


@pytest.mark.parametrize(
    ("text", "code_", "words"),
    [
        ("repo: {url: 'file://CODE', ref: v9}", "no_such_ref", "has no 'v9'"),
        ("repo: file:///nowhere/at/all", "bad_repo", "no repository"),
        ("repo: {url: 'file://CODE', path: nothing}", "no_such_path", "no files below"),
        ("repo: {url: 'file://CODE', path: training/main.py}", "no_such_path", "is a file"),
        ("repo: {url: 'file://CODE', path: ../x}", "bad_repo", "path"),
        ("repo: {url: 'file://CODE', at: chunks/x}", "bad_repo", "kept for the outputs"),
        ("repo: ./missing", "no_such_path", "no folder"),
        ("repo: 'ext::sh -c touch% x'", "bad_repo", "no address"),
        ("repo: 'ext::sh'", "bad_repo", "ext::sh"),
        ("repo: --upload-pack=x", "bad_repo", "no address"),
        ("repo: {ref: v1}", "missing_key", "address"),
        ("repo: {url: 'file://CODE@v1', ref: v1}", "bad_job_file", "already"),
        ("repo: {url: 'file://CODE', ref: '--x'}", "bad_repo", "no branch"),
        ("repo: 'http://127.0.0.1:9/code.git'", "repo_unreachable", "cannot be reached"),
    ],
)
def test_what_is_refused(text: str, code_: str, words: str, code: Path, tmp_path: Path) -> None:
    with pytest.raises((Refused, Unavailable)) as caught:
        load(text.replace("CODE", str(code)) + "\n", tmp_path)
    assert (caught.value.code, words in caught.value.detail) == (code_, True), (caught.value.code, caught.value.detail)
    assert caught.value.fix


def test_lfs_pointers_and_sizes_are_refused_with_names(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    commit(code)
    with pytest.raises(Refused, match=r"LFS pointers, such as model\.bin"):
        load(f"repo: file://{code}\n", tmp_path)
    monkeypatch.setattr(repo, "REPO_BYTES_MAX", 1000)
    with pytest.raises(Refused, match=r"1000 are allowed; the largest is data/big\.bin"):
        load(f"repo: {code}\n", tmp_path)


def test_hooks_and_filters_of_a_repository_do_not_run(code: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (code / ".gitattributes").write_text("*.py filter=evil\n")
    commit(code)
    hook = code / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    load(f"repo: file://{code}\n", tmp_path)
    assert not marker.exists()


def test_a_job_file_from_elsewhere_fetches_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="from elsewhere"):
        read(HEAD + "repo: .\n", tmp_path, {})


def test_files_and_repo_may_not_collide(code: Path, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "x").write_text("x")
    with pytest.raises(Refused, match="from `files` and from `repo`"):
        load(f"repo: {{url: {code}, at: .}}\nfiles: ['x:/training/main.py']\n", tmp_path)
    both = load(f"repo: {{url: {code}, at: .}}\nfiles: [x]\n", tmp_path)
    assert {"x", "training/main.py"} <= set(paths(both.spec))


def test_volumes_are_named_and_left_to_the_node(tmp_path: Path) -> None:
    text = "{data: /vol/data, out: {mount: /vol/out, write: true}, old: {mount: /vol/x, version: v1}}"
    loaded = load(f"volumes: {text}\n", tmp_path)
    assert [(ref.mount, ref.volume, ref.is_writable) for ref in loaded.spec.mounts] == [
        ("/vol/data", "data", False),
        ("/vol/out", "out", True),
        ("/vol/x", "old@v1", False),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("volumes: {data: /etc}", "is not /vol/<name>"),
        ("volumes: {data: /vol/a/b}", "is not /vol/<name>"),
        ("volumes: {data: /vol/..}", '".." part'),
        ("volumes: [data]", "expected a map"),
        ("volumes: {data: {version: v1}}", "mount"),
        ("volumes: {Data: /vol/d}", "no name of a volume"),
        ("volumes: {d: {mount: /vol/d, write: true, version: v1}}", "cannot be written"),
        ("volumes: {a: /vol/d, b: /vol/d}", "is there twice"),
        ("volumes: {d: {mount: /vol/d, write: true}}\nchunks: 2", "cannot write to one volume"),
        ("volumes: {d: {mount: /vol/d, writes: true}}", "unknown key"),
    ],
)
def test_volumes_that_are_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(text + "\n", tmp_path)
    assert words in caught.value.detail and caught.value.fix
    assert caught.value.detail.startswith("job.yml:")
