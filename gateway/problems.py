"""The one table from an error to an HTTP problem (RFC 9457). Every code that a caller can meet is a row here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from gateway.node_client import NodeError
from protocol.errors import LocalError, Refused, ShoalError, Unavailable


class FieldError(Struct, frozen=True):
    """One place in the body that is wrong."""

    pointer: str
    """JSON pointer (RFC 6901) into the body, or the parameter's name."""
    detail: str


class Problem(Struct, frozen=True):
    """The body of every error answer, media type `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: bool
    fix: str = ""
    errors: tuple[FieldError, ...] = ()
    numbers: dict[str, int | str] = {}
    """What disagreed, by name, where numbers did."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of problem."""

    status: int
    title: str
    is_retryable: bool = False
    fix: str = ""
    """What to do when the error itself does not say."""


PROBLEMS: Final[dict[str, Row]] = {
    # The request itself
    "malformed_body": Row(
        400, "The body cannot be read", fix="Send well-formed JSON, or YAML with its own media type."
    ),
    "invalid_body": Row(
        422, "The body does not fit the schema", fix="Each entry of `errors` names a place; /docs shows the schema."
    ),
    "invalid_query": Row(
        400, "A query parameter is wrong", fix="Each entry of `errors` names a parameter; /docs lists them."
    ),
    "invalid_header": Row(400, "A header is wrong", fix="`detail` names the header and what it should hold."),
    "media_type": Row(
        415, "Unsupported media type", fix="Use one of the media types that /docs names for this request."
    ),
    "length_required": Row(
        411, "Content-Length is needed", fix="Send the file with its length instead of in chunks of unknown number."
    ),
    "body_too_large": Row(413, "The body is too large", fix="Send less: `detail` names the limit."),
    "bad_host": Row(
        421,
        "This gateway does not answer under that name",
        fix="Use the address that it printed, or start it with --allow-host.",
    ),
    "foreign_origin": Row(
        403, "The form was sent from another site", fix="Open the page of this gateway and use its own form."
    ),
    "not_found": Row(404, "Not found", fix="Look at the path and the id; ids of other accounts are not found either."),
    "method_not_allowed": Row(405, "Method not allowed", fix="The Allow header lists the methods of this path."),
    # Who is asking
    "token_missing": Row(
        401, "A token is needed", fix="Send `Authorization: Bearer <token>`; `shoal gateway token` makes one."
    ),
    "token_invalid": Row(
        401, "The token is not valid", fix="Copy the whole token, or make another with `shoal gateway token`."
    ),
    "scope_missing": Row(403, "The token may not do this", fix="Make a token with the scope that `detail` names."),
    "rate_limited": Row(429, "Too many requests", True, "Wait as long as Retry-After says."),
    # Idempotency
    "key_missing": Row(
        400,
        "An Idempotency-Key is needed",
        fix="Send a fresh random Idempotency-Key, and the same one when you try again.",
    ),
    "key_malformed": Row(
        400, "The Idempotency-Key is not usable", fix="Use 1 to 255 visible ASCII characters, for example a UUID."
    ),
    "key_reused": Row(422, "The Idempotency-Key was used for something else", fix="Use a new key for a new request."),
    "key_in_progress": Row(
        409, "The first request with this key is still running", True, "Wait as long as Retry-After says and ask again."
    ),
    # What the network says: the request is understood, a rule refuses it
    "refused": Row(422, "A rule refuses this", fix="`detail` names the rule, `numbers` what disagreed."),
    "bad_spec": Row(
        422, "The job specification is not valid", fix="`errors` points at the place; specs/05-job.md describes it."
    ),
    "bad_job_file": Row(422, "The job file is not valid", fix="`detail` names the line and what belongs there."),
    "unknown_job": Row(404, "No such job", fix="GET /marketplace/jobs lists the jobs of this account."),
    "unknown_renter": Row(404, "No such renter"),
    "missing_blobs": Row(422, "Input files are missing", fix="Upload them with POST /blobs, then submit again."),
    "unknown_blob": Row(404, "No such blob", fix="Upload the file with POST /blobs first."),
    "bad_id": Row(404, "No such id"),
    "insufficient_funds": Row(402, "Not enough credits", fix="Deposit more with POST /account/deposit."),
    "bad_state": Row(409, "The job is not in a state that allows this"),
    "quote_expired": Row(409, "The quote has expired", fix="Submit the job again for a new quote."),
    "not_ready": Row(409, "Not there yet", True, "Wait until the job is settled."),
    "no_receipt": Row(409, "There is no receipt yet", True, "Wait until the job is settled."),
    "no_capacity": Row(
        409, "No peer can run this job now", True, "POST /marketplace/plan says for every peer why it was left out."
    ),
    "not_a_party": Row(
        403, "Only who loses by a finding may appeal", fix="A provider appeals at its own node: `shoal job appeal`."
    ),
    "bond_too_small": Row(422, "The bond is too small", fix="Leave `bond` out: the least is then taken."),
    "over_limit": Row(413, "Larger than a limit allows", fix="`numbers` names the limit."),
    "tunnel_limit": Row(503, "Too many tunnels are open", True, "Close connections that nobody uses, and try again."),
    "port_not_declared": Row(
        403, "The job serves no such port", fix="Write it under `ports` in the job file and submit the job again."
    ),
    "no_shell": Row(
        403, "The job allows no shell", fix="Write `shell: true` into the job file and submit the job again."
    ),
    "no_such_chunk": Row(404, "No such chunk", fix="GET /marketplace/jobs/{job} lists the chunks."),
    "disk_full": Row(507, "The node's disk is full", True, "Try again later, or free space on the node."),
    # Not now
    "unavailable": Row(503, "Not available now", True, "Try again after Retry-After."),
    "node_unreachable": Row(503, "The node cannot be reached", True),
    "node_lost": Row(503, "The node went away", True),
    "node_timeout": Row(504, "The node did not answer in time", True),
    "stopping": Row(
        503, "The gateway is stopping", True, "Try again: another gateway, or this one after its restart, answers."
    ),
    "remote": Row(502, "A peer broke a rule", True, "Try again; the peer has been scored."),
    "node_protocol": Row(
        502,
        "The node answered in a way that this gateway does not understand",
        fix="Run node and gateway of the same version.",
    ),
    "internal": Row(500, "The gateway failed", True, "Report it with the request_id; the log has the rest."),
}
"""code -> row. The documentation page and the OpenAPI document are drawn from this table."""

SYNONYMS: Final = {
    "bad_peer_id": "bad_id",
    "no_such_job": "unknown_job",
    "job_over": "bad_state",
    "chunk_over": "bad_state",
    "not_extendable": "bad_state",
    "reference_reused": "key_reused",
    "no_blob": "unknown_blob",
    "blob_too_large": "over_limit",
    "bad_path": "bad_spec",
    "no_margin": "bad_spec",
    "too_many_chunks": "bad_spec",
    "bad_yaml": "bad_job_file",
    "missing_key": "bad_job_file",
    "unknown_key": "bad_job_file",
    "env_missing": "bad_job_file",
    "file_missing": "bad_job_file",
    "unknown_gpu": "bad_job_file",
    "not_held": "bad_state",
    "no_window": "bad_state",
    "window_closed": "bad_state",
    "already_appealed": "bad_state",
    "last_round": "bad_state",
    "no_rival": "bad_state",
    "insufficient_stake": "insufficient_funds",
    "insufficient_user": "insufficient_funds",
    "ledger_behind": "unavailable",
    "ledger_silent": "unavailable",
}
"""Codes that name the same situation; the answer keeps the original code, the row decides status and title."""

_FAULTS: Final = {"caller": "refused", "remote": "remote", "local": "internal", "unavailable": "unavailable"}
RETRY_AFTER_S: Final = 2
"""Seconds that a caller is asked to wait when nothing better is known: a node restarts in about that."""


class HttpProblem(ShoalError):
    """A problem found by the gateway itself."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: dict[str, str] | None = None,
        fix: str = "",
    ) -> None:
        super().__init__(detail, code=code, fix=fix)
        self.errors = errors
        self.headers = headers or {}


def row_of(code: str, fault: str) -> Row:
    """The row for a code, or the default row of whoever is at fault."""
    known = SYNONYMS.get(code, code)
    return PROBLEMS.get(known) or PROBLEMS[_FAULTS.get(fault, "internal")]


def fault_of(error: ShoalError) -> str:
    """caller | remote | local | unavailable."""
    match error:
        case NodeError():
            return error.fault
        case Unavailable():
            return "unavailable"
        case Refused() | HttpProblem():
            return "caller"
        case LocalError():
            return "local"
        case _:
            return "remote"


def problem_of(error: ShoalError, instance: str, request_id: str) -> tuple[Problem, dict[str, str]]:
    """The problem for an error, and the headers that go with it."""
    fault = fault_of(error)
    row = row_of(error.code, fault)
    known = SYNONYMS.get(error.code, error.code)
    page = known if known in PROBLEMS else _FAULTS.get(fault, "internal")
    headers = dict(error.headers) if isinstance(error, HttpProblem) else {}
    if row.status in (503, 507) or (row.status == 409 and row.is_retryable):
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    if row.status == 401:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="shoal"')
    is_ours = fault == "local" and page == "internal"
    problem = Problem(
        type=f"/docs/problems#{page}",
        title=row.title,
        status=row.status,
        detail="Something went wrong inside; the log has it under this request_id." if is_ours else error.detail,
        instance=instance,
        code=error.code,
        request_id=request_id,
        retryable=row.is_retryable or isinstance(error, Unavailable),
        fix=error.fix or row.fix,
        errors=error.errors if isinstance(error, HttpProblem) else (),
        numbers=dict(error.numbers) if isinstance(error, NodeError | Refused) else {},
    )
    return problem, headers
