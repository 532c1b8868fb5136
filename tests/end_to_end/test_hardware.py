"""Trusted hardware over a real network: quotes bound to a claim spare it an audit, another's and old ones do not.

The processes, the ledger, the beacon and the messages are real. The hardware is emulated: a folder that behaves like
Linux' configfs-tsm (tests/node/tsm_folder.py) signs with a root of its own, which the validator's `trust_roots` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.quote_messages import binding
from protocol.units import PeerId
from shoal.client import Client
from shoal.devnet import Devnet
from tests.end_to_end.conftest import Network
from tests.end_to_end.draws import draws
from tests.node.tsm_folder import TsmFolder
from tests.verifier.attestation.foundry import TDX_IMAGE, Foundry

FOUNDRY: Final = Foundry()
CHUNKS: Final = 12
"""Most are claimed before the first verdict, as a newcomer's: half of those lie in the band where evidence decides.
Which ones, the blocks of the network say (tests/end_to_end/draws.py)."""

FLOOR_PPM: Final = 10_000
"""Of the job: 1 %."""

JOB: Final = f"""runtime: python
commands: ['sleep 4; echo $SHOAL_CHUNK > $SHOAL_OUT/n']
chunks: {CHUNKS}
audit: {FLOOR_PPM / 1e6}
proof: {{class: general, hardware: {{tdx: {{images: {TDX_IMAGE.hex()}, versions: [5]}}}}}}
estimate: 5s
"""


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TsmFolder]:
    with TsmFolder(tmp_path_factory.mktemp("tsm") / "report", FOUNDRY.tdx) as folder:
        yield folder


def told(folder: Path, settings: dict[str, str]) -> None:
    """Put settings at the head of a node's configuration, in place of those that it has."""
    lines = (folder / "config.toml").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition(" = ")[0] not in settings]
    said = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "config.toml").write_text("\n".join([*said, *kept, ""]), encoding="utf-8")


class Told(Devnet):
    """A network of which some nodes find more in their configuration when they start."""

    def __init__(self, folder: Path, settings: dict[str, dict[str, str]]) -> None:
        super().__init__(folder, lambda text: None)
        self._settings = settings

    def _spawn(self, name: str) -> None:
        told(self.folder / name, self._settings.get(name, {}))
        super()._spawn(name)


@pytest.fixture
def network(hardware: TsmFolder, tmp_path: Path) -> Iterator[Network]:
    """A provider whose machine signs, and a validator that knows the maker; both fresh, as only newcomers are drawn so
    often."""
    roots = tmp_path / "roots"
    (roots / "tdx").mkdir(parents=True)
    (roots / "tdx" / "root.pem").write_bytes(FOUNDRY.tdx_chain.root.public_bytes(Encoding.PEM))
    settings = {
        "validator": {"trust_roots": f'"{roots}"'},
        "provider-1": {"attestation": f'"{hardware.folder}"', "slots": str(CHUNKS)},
    }
    devnet = Told(tmp_path / "net", settings)
    state = devnet.up(1)
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            yield Network(devnet, state, client, tmp_path)
    finally:
        killed = devnet.down()
    assert not killed, f"{killed} did not end when they were asked to"


def quotes(network: Network, count: int) -> list[str]:
    """What the judge found of as many quotes."""
    found: list[str] = []
    with network.devnet.control("validator") as control:
        stream = control.iter_stream("node.events", {"since": 0})
        while len(found) < count:
            event = next(stream)
            if event["name"] == "quote":
                fields = event["fields"]
                assert isinstance(fields, dict)
                found.append(str(fields["code"]))
    return found


def ended(network: Network, job: str, in_band: str) -> int:
    """The job is over, and each chunk ended as its draw says: `in_band` is the code of those that evidence decides.
    How many these are."""
    status = network.settled(job)
    said = draws(
        network.devnet.folder / "validator" / "blocks.journal", network.genesis, FLOOR_PPM, network.folder / "copy"
    )
    wanted = {"accept": "not_sampled", "ask": in_band, "audit": "hash_equal"}
    drawn = {chunk: wanted[draw] for (_, chunk, _), draw in said.items()}
    assert {chunk.index: chunk.code for chunk in status.chunks} == drawn
    assert all(chunk.is_audited == (chunk.code == "hash_equal") for chunk in status.chunks)
    return list(said.values()).count("ask")


def test_quotes_of_this_very_claim_spare_it_its_audit(network: Network, hardware: TsmFolder) -> None:
    hardware.signs = FOUNDRY.tdx
    before = len(hardware.written)
    count = ended(network, network.run("vouched", JOB), "attested")
    asked = hardware.written[before:]
    assert len(set(asked)) == len(asked) == count, "asked in the band only, and once per claim"
    assert quotes(network, count) == ["attested"] * count


def test_another_nodes_quote_and_an_old_one_change_nothing(network: Network, hardware: TsmFolder) -> None:
    """Both are genuine in every byte, and made for something else: the hardware hands them out in turn."""
    others = FOUNDRY.tdx(binding(PeerId(b"\1" * 32), bytes(32), 0, 1, bytes(32), bytes(32)))
    older: list[bytes] = []

    def stale(asked: bytes) -> bytes:
        older.append(FOUNDRY.tdx(asked))
        return older[-2] if len(older) > 1 else others

    hardware.signs = stale
    before = len(hardware.written)
    count = ended(network, network.run("relayed", JOB), "hash_equal")
    assert len(hardware.written) - before == count
    assert quotes(network, count) == ["stale_nonce"] * count
