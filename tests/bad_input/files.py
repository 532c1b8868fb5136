"""Bad job files, GPU wishes and archives."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from shoal import archive, jobfile
from tests.bad_input.ground import Ground, Row, Told, raised
from tests.shoal.proof_mistakes import MISTAKES

HEAD = "type: task\nname: x\ncommands: [a]\n"


def job(name: str, text: str, code: str, says: str) -> Row:
    """A job file's text."""

    def act(ground: Ground) -> Told:
        folder = ground.fresh()
        (folder / "m.wasm").write_bytes(b"\0asm")
        (folder / "out").symlink_to("/etc/hostname")
        return raised(lambda: jobfile.read(text, folder, {}))

    return Row(f"job file: {name}", act, code, says)


def job_on_disk(name: str, make: Callable[[Path], Path], code: str, says: str) -> Row:
    """A job file that cannot even be read."""
    return Row(f"job file: {name}", lambda ground: raised(lambda: jobfile.load(make(ground.fresh()), {})), code, says)


def written(data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "job.yml").write_bytes(data)
        return folder / "job.yml"

    return make


def gpu(name: str, text: str, code: str, says: str) -> Row:
    """A wish for cards."""
    return job(f"gpu {name}", f"{HEAD}resources:\n  gpu: {text}\n", code, says)


def packed(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for entry in entries:
            made.addfile(entry, io.BytesIO(bytes(entry.size)))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, target
    return made


def tar(name: str, data: Callable[[], bytes], code: str, says: str) -> Row:
    """An archive; the folder must be gone afterwards."""

    def act(ground: Ground) -> Told:
        target = ground.fresh() / "out"
        told = raised(lambda: archive.unpack(data(), target))
        assert not target.exists(), "something of it was kept"
        return told

    return Row(f"archive: {name}", act, code, says)


def huge() -> bytes:
    claimed = entry("big", size=archive.ARCHIVE_BYTES_MAX + 1)
    return claimed.tobuf() + bytes(1024)


ROWS = (
    job("empty", "", "bad_yaml", "the file is empty"),
    job("no YAML", "a: [1", "bad_yaml", "job.yml:"),
    job("tab", "type: task\n\tname: x\n", "bad_yaml", "a tab is used as indentation"),
    job("alias", "a: &x 1\nb: *x\n", "bad_yaml", "anchors and aliases"),
    job("tag", "name: !!python/object:os.system x\n", "bad_yaml", "tags (!) are not read"),
    job("two documents", f"{HEAD}---\n{HEAD}", "bad_yaml", "a second document begins here"),
    job("key twice", f"{HEAD}name: y\n", "bad_yaml", "the key is there twice, first in line 2"),
    job("merge key", f"{HEAD}env: {{<<: {{A: 1}}}}\n", "bad_yaml", "a key is a plain word"),
    job("deep", "a: " + "[" * 20 + "]" * 20, "over_limit", "nested deeper than 8"),
    job("long", HEAD + "#" * 70_000, "over_limit", "at most 65536 are read"),
    job("a list", "- a\n", "bad_job_file", "expected a map"),
    job("no type", "name: x\ncommands: [a]\n", "missing_key", "expected `type: task`"),
    job("a service", "type: service\nname: x\ncommands: [a]\n", "bad_job_file", "expected `task`, found `service`"),
    job("no name", "type: task\ncommands: [a]\n", "missing_key", "name: expected a name"),
    job("bad name", "type: task\nname: My Job\ncommands: [a]\n", "bad_job_file", "found `My Job`"),
    job("unquoted no", "type: task\nname: no\ncommands: [a]\n", "bad_job_file", "found `no`"),
    job("no commands", "type: task\nname: x\n", "missing_key", "commands: expected a list of command lines"),
    job("unknown key", f"{HEAD}comands: [b]\n", "unknown_key", "unknown key `comands`"),
    job("somebody else's key", f"{HEAD}num_nodes: 2\n", "unknown_key", "num_nodes"),
    job("unknown runtime", f"{HEAD}runtime: pyton\n", "bad_job_file", "found `pyton`"),
    job("two runtimes", f"{HEAD}runtime: python\nimage: a:1\n", "bad_job_file", "runtime and image"),
    job("other python", f"{HEAD}python: 3.9\n", "bad_job_file", "found `3.9`"),
    job("wasm with a shell", f"{HEAD}wasm: m.wasm 1\n", "bad_job_file", "no shell and no commands"),
    job("no chunks", f"{HEAD}chunks: 0\n", "bad_job_file", "expected a number of chunks"),
    job("too many chunks", f"{HEAD}chunks: 99999\n", "bad_job_file", "from 1 to 4096"),
    job("empty matrix", f"{HEAD}matrix: {{}}\n", "over_limit", "found 0"),
    job("chunks and matrix", f"{HEAD}chunks: 2\nmatrix: {{A: [1]}}\n", "bad_job_file", "`chunks` is there too"),
    job("reserved variable", f"{HEAD}env: {{SHOAL_CHUNK: 1}}\n", "bad_job_file", "is set by the sandbox"),
    job("unset variable", f"{HEAD}env: [MY_SECRET]\n", "env_missing", "MY_SECRET is not set in your environment"),
    job("bad variable", f"{HEAD}env: {{1A: 2}}\n", "bad_job_file", "no name of a variable"),
    job("missing file", f"{HEAD}files: [nothing.txt]\n", "file_missing", "there is no file nothing.txt"),
    job("file outside", f"{HEAD}files: [../../etc/passwd]\n", "path_escapes", "outside the job file's folder"),
    job("absolute file", f"{HEAD}files: [/etc/passwd]\n", "path_escapes", "outside the job file's folder"),
    job("link outside", f"{HEAD}files: [out]\n", "path_escapes", "is a link to /etc/hostname"),
    job("target outside", f"{HEAD}files: ['m.wasm:/../x']\n", "bad_path", '".." part'),
    job("kept folder", f"{HEAD}files: ['m.wasm:/chunks/a']\n", "bad_path", "is kept for the outputs"),
    job("negative money", f"{HEAD}max_price: -1\n", "bad_job_file", "max_price"),
    job("tiny money", f"{HEAD}spend_cap: 0.0000001\n", "bad_job_file", "spend_cap"),
    job("no span", f"{HEAD}timeout: soon\n", "bad_job_file", "found `soon`"),
    job("no size", f"{HEAD}resources: {{memory: much}}\n", "bad_job_file", "found `much`"),
    job("long estimate", f"{HEAD}timeout: 5s\nestimate: 6s\n", "bad_job_file", "at most the timeout, 5 s"),
    job("audit over 1", f"{HEAD}audit: 120%\n", "bad_job_file", "audit"),
    *(job(f"proof {number}", text, code, says) for number, (text, _, code, says, _) in enumerate(MISTAKES)),
    job("inexact wasm", "type: task\nname: x\nwasm: m.wasm\nnumeric: D2\n", "bad_job_file", "D0 for wasm"),
    job_on_disk("missing", lambda folder: folder / "none.yml", "file_missing", "No such file"),
    job_on_disk("a folder", lambda folder: folder, "file_missing", "Is a directory"),
    job_on_disk("not UTF-8", written(b"name: \xff\n"), "bad_yaml", "job.yml:1:1: not UTF-8 text"),
    gpu("unknown", "RTX9090", "unknown_gpu", "unknown GPU `RTX9090`"),
    gpu("of another maker", "amd:A100", "unknown_gpu", "A100 is made by nvidia, not by amd"),
    gpu("twice", "'A100:A100'", "bad_job_file", "expected a GPU such as"),
    gpu("memory backwards", "'80GB..24GB'", "bad_job_file", "memory from small to large"),
    gpu("count backwards", "'A100:4..2'", "bad_job_file", "a count from 0 to 64"),
    gpu("a farm", "'A100:200'", "bad_job_file", "a count from 0 to 64"),
    gpu("empty part", "'A100::'", "bad_job_file", "expected a GPU such as"),
    tar("no tar", lambda: b"hello", "bad_archive", "not a tar archive"),
    tar("cut off", lambda: packed(entry("a", size=5000))[:2000], "bad_archive", "unexpected end of data"),
    tar("damaged gzip", lambda: gzip.compress(b"x" * 999)[:-9], "bad_archive", "damaged gzip"),
    tar("parent path", lambda: packed(entry("../evil")), "bad_path", '".." part'),
    tar("absolute path", lambda: packed(entry("/etc/evil")), "bad_path", "is absolute"),
    tar("backslash", lambda: packed(entry("..\\evil")), "bad_path", "has a backslash"),
    tar("link", lambda: packed(entry("a", tarfile.SYMTYPE, target="/etc/passwd")), "bad_path", "is a link"),
    tar("hard link", lambda: packed(entry("a"), entry("b", tarfile.LNKTYPE, target="a")), "bad_path", "is a link"),
    tar("device", lambda: packed(entry("a", tarfile.CHRTYPE)), "bad_path", "no regular file"),
    tar("twice", lambda: packed(entry("a"), entry("a")), "bad_archive", "is there twice"),
    tar("file and folder", lambda: packed(entry("a"), entry("a/b")), "bad_archive", "a file and a folder at once"),
    tar("too large", huge, "over_limit", f"at most {archive.ARCHIVE_BYTES_MAX}"),
)
