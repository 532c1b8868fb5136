"""Bad commands, and nodes that are started wrongly."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from tests.bad_input.ground import Ground, Row, Told

SOMEBODY = "12D3KooWLNQaRo2dap7DjThUmXHtv4vkbE18Gy9URVu2YzPVcbJ6"


def command(name: str, words: str, code: str, says: str) -> Row:
    """A command without any network; the words are split at spaces."""
    return Row(f"command: {name}", lambda ground: ground.cli(*words.split()), code, says)


def renter(name: str, words: str, code: str, says: str) -> Row:
    """A command at the gateway."""

    def act(ground: Ground) -> Told:
        places = {"{job}": ground.job, "{over}": ground.over, "{tmp}": str(ground.fresh())}
        text = words
        for mark, value in places.items():
            text = text.replace(mark, value)
        return ground.shoal(*text.split())

    return Row(f"command: {name}", act, code, says)


def plug(name: str, config: str, code: str, says: str) -> Row:
    """`shoal node run` with this config.toml."""

    def act(ground: Ground) -> Told:
        data = ground.fresh()
        (data / "config.toml").write_text(config, encoding="utf-8")
        return ground.cli("node", "run", "--data", str(data))

    return Row(f"node: {name}", act, code, says)


def start(name: str, prepare: Callable[[Ground, Path], None], code: str, says: str) -> Row:
    """`shoal node run` on a prepared data directory with a good genesis file."""

    def act(ground: Ground) -> Told:
        data = ground.fresh()
        (data / "genesis.json").write_bytes((ground.folder / "net" / "genesis.json").read_bytes())
        prepare(ground, data)
        return ground.cli("node", "run", "--data", str(data), "--listen", "/ip4/127.0.0.1/tcp/0")

    return Row(f"node: {name}", act, code, says)


def seed(text: str, mode: int = 0o600) -> Callable[[Ground, Path], None]:
    def write(ground: Ground, data: Path) -> None:
        (data / "identity.seed").write_text(text, encoding="utf-8")
        (data / "identity.seed").chmod(mode)

    return write


def genesis(text: str) -> Callable[[Ground, Path], None]:
    def write(ground: Ground, data: Path) -> None:
        (data / "genesis.json").write_text(text, encoding="utf-8")

    return write


def gone(ground: Ground, data: Path) -> None:
    (data / "genesis.json").unlink()


def listening(name: str, address: str, code: str, says: str, *words: str) -> Row:
    """`shoal node run` with a good genesis file, told to listen there. `{port}`: one that is taken."""

    def act(ground: Ground) -> Told:
        data = ground.fresh()
        (data / "genesis.json").write_bytes((ground.folder / "net" / "genesis.json").read_bytes())
        (data / "capability.json").write_bytes((ground.node / "capability.json").read_bytes())
        with socket.create_server(("127.0.0.1", 0)) as server:
            where = address.replace("{port}", str(server.getsockname()[1]))
            quiet = ("--executors", "wasm", "--log-level", "error")
            return ground.cli("node", "run", "--data", str(data), *quiet, "--listen", where, *words)

    return Row(f"node: {name}", act, code, says)


def taken(ground: Ground) -> Told:
    return ground.cli("node", "run", "--data", str(ground.node))


def in_the_way(ground: Ground, data: Path) -> None:
    (data / "blobs").write_text("a file where a folder belongs", encoding="utf-8")


def damaged(ground: Ground, data: Path) -> None:
    (data / "node.sqlite").write_bytes(b"no database" * 999)


def no_folder(ground: Ground) -> Told:
    path = ground.fresh() / "file"
    path.write_text("", encoding="utf-8")
    return ground.cli("node", "run", "--data", str(path))


COMMANDS = (
    command("no word", "", "usage", "required: <command>"),
    command("unknown noun", "fly", "usage", "invalid choice: 'fly'"),
    command("unknown verb", "job fly", "usage", "invalid choice: 'fly'"),
    command("unknown flag", "job list --fast", "usage", "--fast"),
    command("missing argument", "job submit", "usage", "file"),
    command("flag without a value", "node run --slots", "usage", "--slots"),
    command("number that is none", "job list --limit x", "usage", "--limit"),
    command("no gateway named", "job list", "no_gateway", "no gateway is named"),
    command(
        "nobody at the gateway",
        "job list --gateway http://127.0.0.1:9 --token t",
        "gateway_unreachable",
        "no gateway answers at http://127.0.0.1:9",
    ),
    command(
        "gateway that is none", "job list --gateway ftp://x --token t", "bad_url", "'ftp://x' is no gateway address"
    ),
    command("no node", "node status", "node_unreachable", "control.sock"),
    command("gateway without a node", "gateway run", "node_unreachable", "control.sock"),
    command("token for a bad name", "gateway token --name Anna", "bad_name", "Anna"),
    command("token for a bad scope", "gateway token --name anna --scope root", "bad_scope", "root"),
    command("too many providers", "devnet up --providers 99", "usage", "99 providers"),
    command("unknown shell", "completion tcsh", "usage", "tcsh"),
    command("amount with a comma", "account deposit 1,5", "bad_amount", "1,5"),
    command("missing receipt", "job receipt job_1 --from none.receipt", "file_missing", "none.receipt"),
    renter("missing job file", "job submit {tmp}/none.yml -y", "file_missing", "cannot be read"),
    renter("nobody to agree", "job submit examples/script/job.yml --quiet", "usage", "nobody can answer here"),
    renter("job that is none", "job status job_42", "unknown_job", "this account has no job job_42"),
    renter("result before the end", "job result {job} --to {tmp}/out", "not_ready", "its result is not complete"),
    renter("confirm what is over", "job confirm {over}", "job_over", "the job is cancelled"),
)

NODE = (
    Row("node: started twice", taken, "data_in_use", "already runs a node on"),
    Row("node: data directory that is a file", no_folder, "bad_config", "config.toml"),
    start("no genesis", gone, "bad_genesis", "there is no genesis file"),
    start("genesis that is no JSON", genesis("{"), "bad_genesis", "genesis file"),
    start(
        "genesis without validators",
        genesis('{"chain": "x", "time": 0, "validators": [], "balances": []}'),
        "bad_genesis",
        "validators",
    ),
    start(
        "genesis with a bad key",
        genesis('{"chain": "x", "time": 0, "validators": [["me", 1]], "balances": []}'),
        "bad_peer_id",
        "'me' is no peer id",
    ),
    start("seed that others can read", seed("00" * 32, 0o644), "bad_seed", "others can read"),
    start("seed that is damaged", seed("zz"), "bad_seed", "64 hexadecimal digits are expected"),
    start("file in the way", in_the_way, "data_unusable", "cannot keep blobs in"),
    start("records that are damaged", damaged, "data_unusable", "cannot use the records in"),
    plug("setting that is none", "slotz = 3\n", "bad_config", "unknown setting 'slotz'"),
    plug("setting of the wrong type", "slots = true\n", "bad_config", "slots"),
    plug("setting out of bounds", "slots = 999\n", "bad_config", "slots"),
    plug("price as a number", "price_per_hour = 0.5\n", "bad_config", "price_per_hour (file) is 0.5"),
    plug("price that is none", 'price_per_hour = "cheap"\n', "bad_amount", "cheap"),
    plug("unknown role", 'roles = ["king"]\n', "bad_config", "king"),
    plug("no TOML", "slots = \n", "bad_config", "config.toml"),
    plug(
        "everybody without a sandbox", 'serves = ["*"]\n', "bad_config", "would run strangers' jobs without a sandbox"
    ),
    plug("bootstrap without a peer", 'bootstrap = ["/ip4/1.2.3.4/tcp/1"]\n', "bad_config", "names no peer"),
    plug("address that is none", 'listen = ["localhost:80"]\n', "bad_config", "'localhost:80' is no address"),
    listening("port in use", "/ip4/127.0.0.1/tcp/{port}", "address_in_use", "cannot listen on /ip4/127.0.0.1/tcp/"),
    listening("somebody else's address", "/ip4/203.0.113.7/tcp/4301", "address_unusable", "/ip4/203.0.113.7/tcp/4301"),
    listening("address out of bounds", "/ip4/300.1.1.1/tcp/4301", "bad_address", "'/ip4/300.1.1.1/tcp/4301' cannot be"),
    listening("port out of bounds", "/ip4/127.0.0.1/tcp/99999", "bad_address", "tcp/99999' cannot be listened on"),
    listening("address without a port", "/ip4/127.0.0.1", "bad_address", "'/ip4/127.0.0.1' cannot be listened on"),
    listening("address of UDP", "/ip4/127.0.0.1/udp/4301", "bad_address", "udp/4301' cannot be listened on"),
    listening("IPv6 that is none", "/ip6/::zz/tcp/4301", "bad_address", "'/ip6/::zz/tcp/4301' cannot be listened on"),
    listening(
        "bootstrap out of bounds",
        "/ip4/127.0.0.1/tcp/0",
        "bad_address",
        "is no address of a peer",
        "--bootstrap",
        f"/ip4/300.1.1.1/tcp/1/p2p/{SOMEBODY}",
    ),
    listening(
        "bootstrap that is nobody",
        "/ip4/127.0.0.1/tcp/0",
        "bad_peer_id",
        "'12D3KooW' is no peer id",
        "--bootstrap",
        "/ip4/127.0.0.1/tcp/1/p2p/12D3KooW",
    ),
    plug("misbehaviour", 'misbehave = "wrong-pixels"\n', "bad_config", "is for tests of the network"),
)

ROWS = (*COMMANDS, *NODE)
