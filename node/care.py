"""What this host does for the safety of others' work, for its owner: shards kept, leases protected, the uplink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from node.uplink import Uplink
from protocol.identity import peer_text
from protocol.provider import Provider
from protocol.provider_lease import Lease
from protocol.units import Micros
from protocol.wire import text_id
from storage.wiring import Vault


@dataclass(frozen=True, slots=True)
class Care:
    """One per node."""

    vault: Vault
    provider: Provider
    uplink: Uplink

    def status(self, now: Micros) -> Mapping[str, object]:
        """As plain values: what is kept here for others, and what is kept elsewhere for what runs here."""
        usage = self.vault.holder.usage
        return {
            "kept_bytes": usage.used,
            "kept_shards": usage.shards,
            "kept_until": usage.until,
            "keep_bytes_max": usage.quota,
            "uplink": self.uplink.told,
            "uplink_words": self.uplink.words,
            "protected": [
                self._lease(lease, now)
                for lease in self.provider.leases.values()
                if lease.secret and lease.phase == "running"
            ],
        }

    def _lease(self, lease: Lease, now: Micros) -> Mapping[str, object]:
        durable = [one for one in self.vault.protector.snapshots(lease.task) if one.is_durable]
        newest = durable[-1].manifest if durable else None
        reason, kept = lease.words.now
        return {
            "job": text_id("job", lease.job),
            "chunk": lease.assign.chunk,
            "epoch": lease.assign.epoch,
            "tier": newest.tier if newest else "",
            "step": newest.step if newest else 0,
            "bytes": newest.size if newest else 0,
            "age_us": now - newest.taken if newest else None,
            "standby": peer_text(lease.standby) if lease.standby else "",
            "reason": reason,
            "kept": kept,
        }
