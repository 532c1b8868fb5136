"""What a node is told: one frozen `Config`, read once from defaults, `<data>/config.toml`, SHOAL_* and flags.

The later of these wins. In files, variables and flags money is text in credits ("0.5"); inside it is an integer in
smallest units.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.credits import credits_from_text
from protocol.errors import Refused, Unavailable
from protocol.identity import SEED_BYTES, Identity, peer_from_text
from protocol.units import CREDIT, GIB

Role = Literal["provider", "validator", "steward"]
Executor = Literal["docker", "runc", "bwrap", "wasm", "child"]

ADVERSARY_SWITCH: Final = "SHOAL_TEST_ADVERSARY"
"""Set to 1 it allows `misbehave`; only the demo and the tests set it."""

ENVIRONMENT_PREFIX: Final = "SHOAL_"
FIGURES: Final = "capability.json"
"""In a node's folder: what its benchmark found when it first started, two seconds of a core."""

LISTEN_DEFAULT: Final = "/ip4/0.0.0.0/tcp/4301"
"""A fixed port, so that a router's rule or a bootstrap list stays right over restarts."""


HOURS: Final = r"^$|^\d\d:\d\d-\d\d:\d\d(,\d\d:\d\d-\d\d:\d\d)*$"
"""Spans of local time; what they mean, and whether such times exist, says `node.watching.hours_of`."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """One node. Paths are absolute; nothing here changes while the node runs."""

    data: Path
    network: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")] = "shoal"
    name: Annotated[str, Meta(max_length=64)] = ""
    """For logs and pages; the identity is the peer id."""
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=3)] = ("provider", "steward")
    listen: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8)] = (LISTEN_DEFAULT,)
    bootstrap: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    """Multiaddrs ending in /p2p/<peer id>."""
    announce: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    """Addresses to tell others besides those found out: a port that the owner opened by hand."""
    port_mapping: bool = True
    """Ask the router for an open port (PCP, NAT-PMP, UPnP)."""
    relay: bool = True
    """Carry connections of peers behind routers, within a budget, while others can reach this node."""
    mdns: bool = True
    """Find peers on the local network, and be found there."""
    data_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """TCP port for bulk data, on the hosts of `listen`; 0: any. Fix it to open it in a router by hand."""
    up_mbps: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Megabits per second that bulk data may leave with; 0: no cap."""
    down_mbps: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Megabits per second that bulk data may come with; 0: no cap."""
    muxer: Literal["own", "stock"] = "own"
    """Stream multiplexer; `stock` is libp2p's, slower and without bounds, should ours ever misbehave."""
    region: Annotated[str, Meta(max_length=32, pattern=r"^([a-z][a-z0-9-]*)?$")] = ""
    """Where this machine stands, like `eu-west`, for renters who ask for it; empty: not said."""
    genesis: Path | None = None
    """None: `<data>/genesis.json`."""
    price_per_hour: Annotated[int, Meta(ge=0, le=2**62)] = CREDIT
    """Smallest units per hour and slot; an owner changes it while running with `shoal node price`."""
    slots: Annotated[int, Meta(ge=0, le=256)] = 1
    serves: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    """Renters whose jobs may run as a plain child process, without a sandbox: peer ids, never everybody."""
    trusted_nodes: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    """Other nodes of this owner: their process images, which run with CRIU's rights, are restored here."""
    executors: tuple[Executor, ...] = ("docker", "runc", "bwrap", "wasm", "child")
    """Tiers that may be used where `doctor` finds them."""
    runtimes: dict[str, Path] = {}
    """Name -> Python interpreter, e.g. torch = "/opt/torch/bin/python"."""
    blob_bytes_max: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 20 * GIB
    keep_bytes_max: Annotated[int, Meta(ge=0, le=1 << 50)] = 5 * GIB
    """Bytes of snapshots and volumes of others that may lie here, as ciphertext; 0: none."""
    hours: Annotated[str, Meta(max_length=256, pattern=HOURS)] = ""
    """Local times of day in which this machine works, like `22:00-06:00,12:00-13:00`; empty: always."""
    owner_command: Annotated[str, Meta(max_length=1024)] = ""
    """A program that ends with 0 while the owner needs the machine; asked every second. Empty: only cards tell."""
    drand_url: Annotated[str, Meta(max_length=256, pattern=r"^(https?://[^\s,]+)?$")] = ""
    """A validator mixes public randomness of this drand relay into its parts of beacons; empty: it does not."""
    attestation: Annotated[str, Meta(max_length=256, pattern=r"^(auto|off|/.+)$")] = "auto"
    """Where trusted hardware signs for this machine's results: what the kernel has, another folder like it, or off."""
    attestation_python: Path | None = None
    """An interpreter with nv-attestation-sdk; None: NVIDIA's driver is asked directly."""
    trust_roots: Path | None = None
    """Validators: a folder of makers' root certificates; None: those of Intel, AMD and NVIDIA (specs/40)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    canaries_per_hour: Annotated[int, Meta(ge=0, le=3600)] = 0
    """Validators: finished jobs issued once more as canaries, on average; 0: none (specs/38-canaries.md)."""
    benchmarks_per_hour: Annotated[int, Meta(ge=0, le=60)] = 4
    """Stewards and validators: offers put to the test by a seeded benchmark, on average; 0: none."""
    misbehave: Literal["", "wrong-pixels"] = ""
    """Tests only: what this provider does wrong."""

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.data / "control.sock"

    @property
    def genesis_file(self) -> Path:
        """Where the first state of the ledger is written down."""
        return self.genesis or self.data / "genesis.json"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and for every field where its value came from: default | file | environment | flag."""

    config: Config
    origins: dict[str, str]


FIELDS: Final = tuple(Config.__struct_fields__)
_LISTS: Final = ("roles", "listen", "bootstrap", "announce", "serves", "trusted_nodes", "executors")
_SWITCHES: Final = ("port_mapping", "relay", "mdns")
_WORDS: Final[dict[str, bool]] = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}
_PATHS: Final = ("data", "genesis", "attestation_python", "trust_roots")
_NUMBERS: Final = (
    "slots",
    "blob_bytes_max",
    "keep_bytes_max",
    "data_port",
    "up_mbps",
    "down_mbps",
    "canaries_per_hour",
    "benchmarks_per_hour",
)


def default_home(environment: Mapping[str, str]) -> Path:
    """Where Shoal keeps things when nobody says: $SHOAL_HOME, else `shoal` under the user's data directory (XDG)."""
    if said := environment.get("SHOAL_HOME"):
        return Path(said).expanduser().absolute()
    base = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "shoal"


def load(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> Loaded:
    """The configuration. `flags` holds what the command line said (None = not said). `file` replaces
    `<data>/config.toml` and must exist. Raises Refused (`bad_config`) with the source, the field and the fix."""
    said = {name: value for name, value in flags.items() if value is not None}
    variables = {name: environment[key] for name in FIELDS if (key := ENVIRONMENT_PREFIX + name.upper()) in environment}
    data = (
        Path(str(said.get("data") or variables.get("data") or default_home(environment) / "node"))
        .expanduser()
        .absolute()
    )
    written = _read_file(file or data / "config.toml", is_needed=file is not None)
    values: dict[str, object] = {}
    origins = dict.fromkeys(FIELDS, "default")
    for origin, layer in (("file", written), ("environment", variables), ("flag", said)):
        for name, value in layer.items():
            values[name] = _typed(name, value, origin, data)
            origins[name] = origin
    values["data"] = data
    try:
        config = msgspec.convert(values, Config, strict=True)
    except msgspec.ValidationError as error:
        raise _bad(str(error), origins) from error
    _check(config, environment)
    return Loaded(config, origins)


def identity(config: Config) -> Identity:
    """The node's key, made on first use (`<data>/identity.seed`, 0600, hexadecimal). Call with the data lock held.

    Refused (`bad_seed`) when the file is damaged or others may read it: a new key would lose stake and reputation."""
    path = config.data / "identity.seed"
    try:
        return _read_identity(path)
    except FileNotFoundError:
        from node import entropy

        return _write_identity(path, entropy.seed())


def _read_identity(path: Path) -> Identity:
    if path.stat().st_mode & 0o077:
        raise Refused(
            f"others can read {path}",
            code="bad_seed",
            fix=f"Run `chmod 600 {path}`; if it was copied, make a new node.",
        )
    try:
        return Identity(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except (ValueError, UnicodeDecodeError, Refused) as error:
        raise Refused(
            f"{path} holds no identity: {SEED_BYTES * 2} hexadecimal digits are expected",
            code="bad_seed",
            fix="Restore it from your backup; deleting it makes another peer, without this one's stake and reputation.",
        ) from error


def _write_identity(path: Path, seed: bytes) -> Identity:
    """Complete or not at all: written beside, synced, renamed."""
    beside = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(seed.hex() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
    except OSError as error:
        raise Unavailable(
            f"cannot write {path}: {error.strerror}", code="data_unusable", fix="Free space, or choose another --data."
        ) from error
    return Identity(seed)


def _read_file(path: Path, is_needed: bool) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if is_needed:
            raise Refused(
                f"there is no {path}", code="bad_config", fix="Name an existing file with --config."
            ) from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"cannot read {path}: {error}", code="bad_config", fix="Make it a readable UTF-8 file."
        ) from error
    try:
        return dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path}: {error}", code="bad_config", fix="Correct the TOML at that line.") from error


def _typed(name: str, value: object, origin: str, data: Path) -> object:
    """A value of a layer as the struct wants it: lists from commas, numbers from text, paths made absolute."""
    if name not in FIELDS:
        raise Refused(
            f"unknown setting {name!r} ({origin})",
            code="bad_config",
            fix="Settings: " + ", ".join(FIELDS) + ".",
            numbers={"setting": name},
        )
    if name == "price_per_hour":
        if not isinstance(value, str):
            raise Refused(
                f"price_per_hour ({origin}) is {value!r}",
                code="bad_config",
                fix='Write credits as text: price_per_hour = "0.5".',
            )
        return credits_from_text(value)
    if name in _PATHS and isinstance(value, str | Path):
        return data.parent / Path(value).expanduser() if origin == "file" else Path(value).expanduser().absolute()
    if name == "runtimes":
        return _runtimes(value, origin)
    if isinstance(value, str) and name in _LISTS:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, str) and name in _SWITCHES:
        return _WORDS.get(value.lower(), value)
    if isinstance(value, str) and name in _NUMBERS:
        with contextlib.suppress(ValueError):
            return int(value)
    return tuple(value) if isinstance(value, list) else value


def _runtimes(value: object, origin: str) -> object:
    """A table, or `name=/path/to/python,other=/path` as text."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if not all(name.strip() and path.strip() for name, _, path in pairs):
            raise Refused(
                f"runtimes ({origin}) is {value!r}", code="bad_config", fix="Write name=/path/to/python,other=/path."
            )
        value = {name.strip(): path.strip() for name, _, path in pairs}
    if isinstance(value, dict):
        return {name: Path(str(path)).expanduser().absolute() for name, path in value.items()}
    return value


def _bad(message: str, origins: Mapping[str, str]) -> Refused:
    name = message.rpartition("`$.")[2].split("[")[0].split("`")[0]
    origin = origins.get(name, "file")
    return Refused(
        f"setting {name or '?'} ({origin}): {message.partition(' - at')[0]}",
        code="bad_config",
        fix="docs/owner.md lists every setting with its type; `shoal node config` shows what is in force.",
        numbers={"setting": name},
    )


def _check(config: Config, environment: Mapping[str, str]) -> None:
    """Rules that types cannot say."""
    for renter in config.serves:
        if "*" in renter:
            raise Refused(
                "serves = \"*\" would run strangers' jobs without a sandbox", code="bad_config",
                fix="List the peer ids of your own renters; strangers' jobs need docker, runc, bwrap or wasm.",
            )  # fmt: skip
        peer_from_text(renter)
    for node in config.trusted_nodes:
        peer_from_text(node)
    for address in config.bootstrap:
        if "/p2p/" not in address:
            raise Refused(
                f"bootstrap address {address!r} names no peer", code="bad_config",
                fix="Write it like /ip4/203.0.113.7/tcp/4301/p2p/12D3KooW…; `shoal node status` of that node shows it.",
            )  # fmt: skip
        peer_from_text(address.rpartition("/p2p/")[2])
    for address in (*config.listen, *config.bootstrap, *config.announce):
        if not address.startswith(("/ip4/", "/ip6/", "/dns")):
            raise Refused(
                f"{address!r} is no address", code="bad_config", fix="Write a multiaddr like /ip4/0.0.0.0/tcp/4301."
            )
    if config.misbehave and environment.get(ADVERSARY_SWITCH) != "1":
        raise Refused(
            f"misbehave = {config.misbehave!r} is for tests of the network", code="bad_config",
            fix=f"Remove it; the demo's --cheat sets {ADVERSARY_SWITCH}=1 itself.",
        )  # fmt: skip
