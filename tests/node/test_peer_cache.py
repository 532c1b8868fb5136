"""The peer cache survives restarts, crashes in the middle, and garbage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.peer_cache import PEERS_MAX, PeerCache
from protocol.identity import Identity, peer_text
from protocol.units import SECOND, Micros, PeerId

PEERS = [Identity(number.to_bytes(32, "big")).peer for number in range(PEERS_MAX + 10)]
ADDRESS = "/ip4/192.0.2.1/tcp/4001"


def test_what_was_saved_is_loaded_in_order(tmp_path: Path) -> None:
    peers = {peer: (ADDRESS, f"/ip4/192.0.2.2/tcp/{number + 1}") for number, peer in enumerate(PEERS[:5])}
    PeerCache(tmp_path / "deep" / "peers.json").save(peers)
    assert list(PeerCache(tmp_path / "deep" / "peers.json").load().items()) == list(peers.items())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["peers.json"]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    cache = PeerCache(tmp_path / "peers.json")
    cache.save(dict.fromkeys(PEERS, (ADDRESS,)))
    assert list(cache.load()) == PEERS[-PEERS_MAX:]


def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    cache = PeerCache(tmp_path / "peers.json")
    cache.save({PEERS[0]: (ADDRESS,)})
    (tmp_path / "peers.json").unlink()
    cache.save({PEERS[0]: (ADDRESS,)})
    assert not (tmp_path / "peers.json").exists()


def test_a_missing_file_is_an_empty_cache(tmp_path: Path) -> None:
    assert PeerCache(tmp_path / "peers.json").load() == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200), st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
    )
)
def test_garbage_is_an_empty_cache_that_can_be_saved(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(garbage)
    cache = PeerCache(path)
    assert cache.load() == {}
    cache.save({PEERS[0]: (ADDRESS,)})
    assert PeerCache(path).load() == {PEERS[0]: (ADDRESS,)}


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text(json.dumps({"version": 1, "peers": {peer_text(PEERS[0]): [ADDRESS]}}))
    assert PeerCache(path).load() == {PEERS[0]: (ADDRESS,)}


def test_peers_that_worked_last_are_kept_and_come_last(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    cache = PeerCache(path)
    cache.worked([PEERS[3]], Micros(1_700_000_100 * SECOND))
    cache.worked([PEERS[1]], Micros(1_700_000_000 * SECOND))
    cache.save(dict.fromkeys(PEERS, (ADDRESS,)))
    loaded = list(PeerCache(path).load())
    assert len(loaded) == PEERS_MAX
    assert loaded[-2:] == [PEERS[1], PEERS[3]]
    again = PeerCache(path)
    known = again.load()
    again.worked([PEERS[1]], Micros(1_700_000_001 * SECOND))
    path.unlink()
    again.save(known)
    assert not path.exists()  # A second more is not worth a write.
    again.worked([PEERS[1]], Micros(1_700_001_000 * SECOND))
    again.save(known)
    assert list(PeerCache(path).load())[-1] == PEERS[1]


def test_one_bad_entry_costs_one_entry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "peers.json"
    path.write_text(json.dumps({"version": 1, "peers": {"nobody": [ADDRESS], peer_text(PEERS[0]): [ADDRESS]}}))
    assert PeerCache(path).load() == {PeerId(PEERS[0]): (ADDRESS,)}
    assert "is no peer id" in caplog.text


def test_a_crash_while_saving_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "peers.json"
    PeerCache(path).save({PEERS[0]: (ADDRESS,)})

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        PeerCache(path).save({PEERS[1]: (ADDRESS,)})
    assert PeerCache(path).load() == {PEERS[0]: (ADDRESS,)}
