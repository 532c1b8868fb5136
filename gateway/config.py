"""What a gateway is told when it starts. Read once, passed down, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

REQUESTS_PER_MINUTE: Final = 100
"""Requests per minute and token (features G2)."""

ANONYMOUS_PER_MINUTE: Final = 600
"""Requests per minute and address without a token: a page load is about ten, a phone network shares addresses."""

FAILURES_PER_MINUTE: Final = 10
"""Wrong tokens per minute and address before the address has to wait (OWASP API2)."""

BODY_BYTES_MAX: Final = 4 << 20
"""One JSON or YAML body: a job of 4096 chunks with their variables stays below 4 MiB."""

BLOB_BYTES_MAX: Final = 1 << 30
"""One uploaded file, 1 GiB; larger inputs are cut by the renter."""

NODE_DEADLINE_S: Final = 15.0
"""Seconds that the node may take for one answer, below the 30 s that HTTP clients usually wait."""

NODE_GRACE_S: Final = 2.0
"""Seconds that a request waits for a node that is just restarting before it is refused."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything that differs between two gateways."""

    socket: Path
    data: Path
    network: str
    host: str = "127.0.0.1"
    port: int = 8080
    names: tuple[str, ...] = ()
    """Host names besides `localhost` and IP addresses under which this gateway answers."""
    requests_per_minute: int = REQUESTS_PER_MINUTE
    anonymous_per_minute: int = ANONYMOUS_PER_MINUTE
    body_bytes_max: int = BODY_BYTES_MAX
    blob_bytes_max: int = BLOB_BYTES_MAX
    node_deadline_s: float = NODE_DEADLINE_S
    node_grace_s: float = NODE_GRACE_S

    @property
    def database(self) -> Path:
        """The SQLite file with accounts and tokens."""
        return self.data / "gateway.sqlite3"
