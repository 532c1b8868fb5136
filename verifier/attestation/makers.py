"""The makers' roots: whose signature makes a quote a quote. Built in, unless a verifier has its own list.

Each root counts for its own maker alone. Sources of the fingerprints: Intel's provisioning certification service, AMD's
key distribution service (as Google's go-sev-guest carries them), NVIDIA's device identity authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from verifier.attestation.quote import Maker


@dataclass(frozen=True, slots=True)
class Makers:
    """Whom a verifier believes; SHA-256 fingerprints of certificates."""

    roots: Mapping[Maker, frozenset[bytes]]
    revoked: frozenset[bytes] = frozenset()
    """Certificates that count no more, roots or not."""


BUILT_IN: Final = Makers(
    MappingProxyType(
        {
            "tdx": frozenset([bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")]),
            "sev-snp": frozenset(
                [
                    bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),  # Milan
                    bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),  # Genoa
                    bytes.fromhex("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),  # Turin
                ]
            ),
            "nvidia": frozenset([bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48")]),
        }
    )
)
"""What holds unless an operator says otherwise (`node.trust_roots`)."""
