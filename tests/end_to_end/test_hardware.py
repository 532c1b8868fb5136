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

from gateway.schemas import JobStatus
from protocol.quote_messages import binding
from protocol.units import PeerId
from shoal.client import Client
from shoal.devnet import Devnet
from tests.end_to_end.conftest import Network
from tests.node.tsm_folder import TsmFolder
from tests.verifier.attestation.foundry import TDX_IMAGE, Foundry

FOUNDRY: Final = Foundry()
CHUNKS: Final = 12
"""All claimed before the first verdict, so that each is a newcomer's: half of them lie in the band where evidence
decides. That none of twelve does happens once in 4096 times."""

JOB: Final = f"""runtime: python
commands: ['sleep 4; echo $SHOAL_CHUNK > $SHOAL_OUT/n']
chunks: {CHUNKS}
audit: 0.01
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


@pytest.fixture
def network(hardware: TsmFolder, tmp_path: Path) -> Iterator[Network]:
    """A provider whose machine signs, and a validator that knows the maker; both fresh, as only newcomers are drawn so
    often."""
    roots = tmp_path / "roots"
    (roots / "tdx").mkdir(parents=True)
    (roots / "tdx" / "root.pem").write_bytes(FOUNDRY.tdx_chain.root.public_bytes(Encoding.PEM))
    devnet = Devnet(tmp_path / "net", lambda text: None)
    devnet.up(1)
    killed = devnet.down()
    told(devnet.folder / "validator", {"trust_roots": f'"{roots}"'})
    told(devnet.folder / "provider-1", {"attestation": f'"{hardware.folder}"', "slots": str(CHUNKS)})
    state = devnet.up(1)
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            yield Network(devnet, state, client, tmp_path)
    finally:
        killed += devnet.down()
    assert not killed, f"{killed} did not end when they were asked to"


def quotes(network: Network, count: int) -> list[str]:
    """What the judge found of as many quotes."""
    found: list[str] = []
    with network.devnet.control("validator") as control:
        for event in control.iter_stream("node.events", {"since": 0}):
            if event["name"] == "quote":
                fields = event["fields"]
                assert isinstance(fields, dict)
                found.append(str(fields["code"]))
            if len(found) >= count:
                break
    return found


def codes(status: JobStatus) -> list[str | None]:
    return [chunk.code for chunk in status.chunks]


def test_quotes_of_this_very_claim_spare_it_its_audit(network: Network, hardware: TsmFolder) -> None:
    hardware.signs = FOUNDRY.tdx
    before = len(hardware.written)
    status = network.settled(network.run("vouched", JOB))
    asked = hardware.written[before:]
    assert asked and len(set(asked)) == len(asked), "asked in the band only, and once per claim"
    assert codes(status).count("attested") == len(asked)
    assert quotes(network, len(asked)) == ["attested"] * len(asked)
    assert set(codes(status)) <= {"attested", "hash_equal", "not_sampled"}
    assert all(chunk.is_audited == (chunk.code == "hash_equal") for chunk in status.chunks)


def test_another_nodes_quote_and_an_old_one_change_nothing(network: Network, hardware: TsmFolder) -> None:
    """Both are genuine in every byte, and made for something else: the hardware hands them out in turn."""
    others = FOUNDRY.tdx(binding(PeerId(b"\1" * 32), bytes(32), 0, 1, bytes(32), bytes(32)))
    older: list[bytes] = []

    def stale(asked: bytes) -> bytes:
        older.append(FOUNDRY.tdx(asked))
        return older[-2] if len(older) > 1 else others

    hardware.signs = stale
    before = len(hardware.written)
    status = network.settled(network.run("relayed", JOB))
    asked = hardware.written[before:]
    assert asked
    assert quotes(network, len(asked)) == ["stale_nonce"] * len(asked)
    assert set(codes(status)) <= {"hash_equal", "not_sampled"}
    assert len([chunk for chunk in status.chunks if chunk.is_audited]) >= len(asked)
