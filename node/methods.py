"""The method table of the control socket, on one screen. Parameters: `node.control_methods`; specs/16-control.md."""

from __future__ import annotations

from pathlib import Path

from node import control_methods as params
from node.blob_api import BlobApi
from node.control import Handler, stream, takeover, unary
from node.dossier_desk import DossierDesk
from node.handing import Handing
from node.job_api import JobApi
from node.network_api import NetworkApi
from node.node_api import NodeApi
from node.parts import Parts
from node.proof_api import ProofApi
from node.renter_api import RenterApi
from node.tunnels.api import TunnelApi
from node.tunnels.client import TunnelClient


def methods(
    parts: Parts,
    uploads: Path,
    desk: DossierDesk,
    tunnels: TunnelClient | None = None,
    handing: Handing | None = None,
) -> dict[str, Handler]:
    """Name to handler."""
    reach = TunnelApi(parts, tunnels)
    node, renter, job, blob = NodeApi(parts, handing), RenterApi(parts), JobApi(parts), BlobApi(parts, uploads)
    network, proof = NetworkApi(parts), ProofApi(parts)
    return {
        "node.status": unary(params.NoParams, node.status),
        "node.peers": unary(params.NoParams, node.peers),
        "node.price": unary(params.PriceParams, node.price),
        "node.drain": unary(params.DrainParams, node.drain),
        "node.reclaim": unary(params.ReclaimParams, node.reclaim),
        "node.earnings": unary(params.NoParams, node.earnings),
        "node.events": stream(params.EventsParams, node.follow),
        "node.stop": unary(params.NoParams, node.stop),
        "network.status": unary(params.NoParams, network.status),
        "blob.begin": unary(params.BlobBeginParams, blob.begin),
        "blob.part": unary(params.BlobPartParams, blob.part),
        "blob.end": unary(params.BlobEndParams, blob.end),
        "blob.get": unary(params.BlobGetParams, blob.get),
        "renter.create": unary(params.RenterCreateParams, renter.create),
        "renter.balance": unary(params.RenterParams, renter.balance),
        "renter.deposit": unary(params.RenterDepositParams, renter.deposit),
        "job.plan": unary(params.JobPlanParams, job.plan),
        "job.submit": unary(params.JobSubmitParams, job.submit),
        "job.confirm": unary(params.JobParams, job.confirm),
        "job.cancel": unary(params.JobParams, job.cancel),
        "job.extend": unary(params.JobExtendParams, job.extend),
        "job.status": unary(params.JobParams, job.status),
        "job.list": unary(params.JobListParams, job.list),
        "job.logs": stream(params.JobLogsParams, job.logs),
        "job.result": unary(params.JobParams, job.result),
        "job.receipt": unary(params.JobParams, job.receipt),
        "job.units": stream(params.JobParams, desk.collect),
        "job.evidence": unary(params.JobEvidenceParams, proof.evidence),
        "job.appeal": unary(params.JobAppealParams, proof.appeal),
        "job.replay": unary(params.JobReplayParams, proof.replay),
        "tunnel.open": takeover(params.TunnelParams, reach.open),
        "tunnel.ticket": unary(params.TicketParams, reach.ticket),
        "market.pricing": unary(params.NoParams, node.pricing),
        "market.queue": unary(params.NoParams, node.queue),
        "market.cluster": unary(params.NoParams, node.cluster),
    }
