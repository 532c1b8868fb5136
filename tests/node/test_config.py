"""Settings: precedence, types, refusals; the identity file."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import FIELDS, Config, default_home, identity, load
from protocol.errors import Refused
from protocol.identity import Identity, peer_text

PEER = peer_text(Identity(bytes(range(32))).peer)


def test_later_layers_win_and_say_where_a_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('price_per_hour = "1.5"\nslots = 2\nname = "mine"\n', encoding="utf-8")
    environment = {"SHOAL_SLOTS": "3", "SHOAL_NAME": "from the environment", "UNRELATED": "x"}
    found = load({"data": str(tmp_path), "name": "said", "roles": None}, environment)
    assert (found.config.price_per_hour, found.config.slots, found.config.name) == (1_500_000, 3, "said")
    assert {name: found.origins[name] for name in ("price_per_hour", "slots", "name", "roles")} == {
        "price_per_hour": "file", "slots": "environment", "name": "flag", "roles": "default",
    }  # fmt: skip
    assert set(found.origins) == set(FIELDS)


def test_everything_can_be_said_as_text(tmp_path: Path) -> None:
    flags = {
        "data": tmp_path, "roles": "provider, validator", "listen": ["/ip4/127.0.0.1/tcp/0"], "serves": PEER,
        "executors": "wasm,child", "trusted_nodes": f" {PEER},",
        "bootstrap": [f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"], "runtimes": "torch=/usr/bin/python3",
        "genesis": "g.json",
    }  # fmt: skip
    config = load(flags, {}).config
    assert config.roles == ("provider", "validator")
    assert config.serves == config.trusted_nodes == (PEER,)
    assert config.runtimes == {"torch": Path("/usr/bin/python3")}
    assert config.genesis_file == Path("g.json").absolute()
    assert config.socket == tmp_path / "control.sock"


def test_paths_of_a_file_are_meant_from_the_folder_above_the_data(tmp_path: Path) -> None:
    data = tmp_path / "node"
    data.mkdir()
    (data / "config.toml").write_text('genesis = "genesis.json"\n', encoding="utf-8")
    assert load({"data": data}, {}).config.genesis_file == tmp_path / "genesis.json"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slots = -1", "slots"),
        ('slots = "many"', "slots"),
        ("slotz = 1", "unknown setting 'slotz'"),
        ("price_per_hour = 1.5", "price_per_hour"),
        ("price_per_hour = 5", "price_per_hour"),
        ('price_per_hour = "-1"', "no amount"),
        ('price_per_hour = "0.0000001"', "no amount"),
        ('roles = ["boss"]', "roles"),
        ("roles = []", "roles"),
        ('serves = ["*"]', "without a sandbox"),
        ('serves = ["me"]', "no peer id"),
        ('trusted_nodes = ["*"]', "no peer id"),
        ('bootstrap = ["/ip4/127.0.0.1/tcp/1"]', "names no peer"),
        ('listen = ["127.0.0.1:1"]', "no address"),
        ('misbehave = "wrong-pixels"', "tests"),
        ('misbehave = "anything"', "misbehave"),
        ('executors = ["root"]', "executors"),
        ('runtimes = "torch"', "runtimes"),
        ("blob_bytes_max = 1", "blob_bytes_max"),
        ('network = "Not A Name"', "network"),
        ('relay = "perhaps"', "relay"),
        ('region = "Atlantis!"', "region"),
        ('announce = ["example.org"]', "no address"),
        ("slots = ", "config.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_its_fix(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.toml").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(Refused, match=says.replace("*", r"\*")) as caught:
        load({"data": tmp_path}, {})
    assert caught.value.fix
    assert caught.value.code in ("bad_config", "bad_amount", "bad_peer_id")


@pytest.mark.parametrize(("text", "expected"), [("on", True), ("OFF", False), ("yes", True), ("0", False)])
def test_switches_are_words_outside_of_a_file(tmp_path: Path, text: str, expected: bool) -> None:
    assert load({"data": tmp_path, "mdns": text}, {}).config.mdns is expected
    assert load({"data": tmp_path}, {"SHOAL_PORT_MAPPING": text}).config.port_mapping is expected
    (tmp_path / "config.toml").write_text("relay = false\n", encoding="utf-8")
    assert load({"data": tmp_path}, {}).config.relay is False


def test_misbehaving_needs_the_switch_of_the_tests(tmp_path: Path) -> None:
    assert load({"data": tmp_path, "misbehave": "wrong-pixels"}, {"SHOAL_TEST_ADVERSARY": "1"}).config.misbehave


def test_a_named_file_must_exist_and_the_usual_one_need_not(tmp_path: Path) -> None:
    assert load({"data": tmp_path}, {}).config.slots == 1
    with pytest.raises(Refused, match="there is no"):
        load({"data": tmp_path}, {}, tmp_path / "other.toml")


def test_home_follows_the_environment() -> None:
    assert default_home({"SHOAL_HOME": "/a"}) == Path("/a")
    assert default_home({"XDG_DATA_HOME": "/b"}) == Path("/b/shoal")
    assert default_home({}).name == "shoal"


def test_an_identity_is_made_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    config = Config(data=tmp_path / "node")
    first = identity(config)
    path = tmp_path / "node" / "identity.seed"
    assert path.stat().st_mode & 0o777 == 0o600
    assert identity(config).peer == first.peer
    assert identity(Config(data=tmp_path / "other")).peer != first.peer


@pytest.mark.parametrize("content", ["", "zz", "00" * 31, "00" * 33, "é"])
def test_a_damaged_identity_is_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "identity.seed"
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(Refused, match="holds no identity"):
        identity(Config(data=tmp_path))
    assert path.read_text(encoding="utf-8") == content


def test_an_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = Config(data=tmp_path)
    identity(config)
    (tmp_path / "identity.seed").chmod(0o644)
    with pytest.raises(Refused, match="others can read"):
        identity(config)
