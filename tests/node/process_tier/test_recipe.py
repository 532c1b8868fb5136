"""packaging/criu/build.sh builds what is pinned or nothing. A whole build takes half a minute: not repeated here."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from node.process_tier.criu import VERSION_MIN, own_build

RECIPE = Path(__file__).parents[3] / "packaging" / "criu" / "build.sh"


def test_another_source_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "configure").write_text("touch ran\n")
    with tarfile.open(tmp_path / "criu-4.2.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "configure", "criu-4.2/Makefile")
    answer = subprocess.run(
        ["sh", str(RECIPE), str(tmp_path / "criu-4.2.tar.gz")],
        env={**os.environ, "PREFIX": str(tmp_path / "prefix")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    assert "not the source of CRIU" in answer.stderr or "missing:" in answer.stderr
    assert not (tmp_path / "prefix").exists()


def test_it_builds_the_version_that_the_node_wants_where_the_node_looks() -> None:
    text = RECIPE.read_text()
    assert f"VERSION={VERSION_MIN[0]}.{VERSION_MIN[1]}\n" in text
    assert own_build({"SHOAL_HOME": "/data"}) == Path("/data/criu/sbin/criu")
    assert own_build({"XDG_DATA_HOME": "/share"}) == Path("/share/shoal/criu/sbin/criu")
    assert own_build({"SHOAL_CRIU": "/opt/criu"}) == Path("/opt/criu")
