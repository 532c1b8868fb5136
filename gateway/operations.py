"""Every operation of the gateway: the list from which the routes and the documentation are made."""

from __future__ import annotations

from typing import Final

from gateway import blobs, handbook, health, jobs, logs, market, money, pages, results
from gateway.routing import Operation
from gateway.schemas import (
    Account,
    BlobStored,
    Deposited,
    DepositRequest,
    ExtendRequest,
    Health,
    JobList,
    JobRequest,
    JobResources,
    JobStatus,
    ListQuery,
    LogQuery,
    Nothing,
    OfferList,
    OfferQuery,
    Plan,
    Quote,
    Readiness,
    ResultList,
    SignIn,
    Statement,
    Submitted,
    Version,
)

NODE: Final = ("unavailable", "node_timeout", "node_protocol", "refused")
"""What any request to the node may end with."""

JOB: Final = (*NODE, "unknown_job")
SPEC_MEDIA: Final = ("application/json", "application/yaml")
BINARY: Final = ("application/octet-stream",)
HTML: Final = ("text/html",)
SSE: Final = ("text/event-stream",)
PICTURES: Final = tuple(sorted(set(results.PICTURES.values())))

_JOB: Final = "/marketplace/jobs/{job}"

OPERATIONS: Final[tuple[Operation, ...]] = (
    # jobs
    Operation("POST", "/marketplace/jobs", "submitJob", "Submit a job for a quote; nothing is paid yet", jobs.create_job, "jobs", scope="jobs", body=JobRequest, body_media=SPEC_MEDIA, takes_key=True, reply=Submitted, status=201, problems=(*NODE, "bad_spec", "no_capacity", "insufficient_funds")),
    Operation("GET", "/marketplace/jobs", "listJobs", "The account's jobs, newest first", jobs.list_jobs, "jobs", query=ListQuery, reply=JobList, problems=NODE),
    Operation("GET", _JOB, "showJob", "Everything about a job", jobs.show_job, "jobs", reply=JobStatus, problems=JOB),
    Operation("GET", f"{_JOB}/quote", "showQuote", "What the job costs at most, and until when that holds", jobs.show_quote, "jobs", reply=Quote, problems=(*JOB, "bad_state")),
    Operation("POST", f"{_JOB}/confirm", "confirmJob", "Agree to the quote: the escrow is funded, the job starts", jobs.confirm_job, "jobs", scope="jobs", reply=JobStatus, problems=(*JOB, "bad_state", "quote_expired", "insufficient_funds")),
    Operation("POST", f"{_JOB}/cancel", "cancelJob", "Stop the job; what was not earned comes back", jobs.cancel_job, "jobs", scope="jobs", reply=JobStatus, problems=(*JOB, "bad_state")),
    Operation("POST", f"{_JOB}/extend", "extendJob", "Raise the spend cap or the time limit", jobs.extend_job, "jobs", scope="jobs", body=ExtendRequest, reply=JobStatus, problems=(*JOB, "bad_state", "insufficient_funds")),
    Operation("GET", f"{_JOB}/logs", "readLog", "The log, followed as events or as plain text", logs.show_logs, "jobs", query=LogQuery, reply_media=("text/event-stream", "text/plain"), problems=(*JOB, "invalid_header")),
    Operation("GET", f"{_JOB}/resources", "showResources", "Where the job's chunks are, and on what", jobs.show_resources, "jobs", reply=JobResources, problems=JOB),
    Operation("GET", f"{_JOB}/result", "listResult", "The files of the result", results.list_result, "jobs", reply=ResultList, problems=(*JOB, "no_result")),
    Operation("GET", f"{_JOB}/result/{{path:path}}", "downloadResult", "One file of the result", results.download_result, "jobs", reply_media=(*BINARY, *PICTURES), problems=(*JOB, "no_result", "not_found")),
    Operation("GET", f"{_JOB}/receipt", "showReceipt", "Signed operations, headers and proofs: verifiable offline", jobs.show_receipt, "jobs", reply_media=("application/vnd.shoal.receipt",), problems=(*JOB, "no_receipt")),
    Operation("POST", "/marketplace/plan", "planJob", "Who could run a job, at what price, and who could not and why", jobs.plan_job, "jobs", body=JobRequest, body_media=SPEC_MEDIA, reply=Plan, problems=(*NODE, "bad_spec")),
    Operation("POST", "/blobs", "uploadBlob", "Store one input file; its digest goes into the specification", blobs.upload_blob, "jobs", scope="jobs", body=Nothing, body_media=BINARY, is_stream_body=True, reply=BlobStored, status=201, problems=(*NODE, "length_required", "disk_full")),
    # market
    Operation("GET", "/market/offers", "listOffers", "Providers that can be had, cheapest first", market.list_offers, "market", query=OfferQuery, reply=OfferList, problems=NODE),
    Operation("GET", "/marketplace/cluster", "showCluster", "Peers, slots and cards, counted", market.show_cluster, "market", problems=NODE),
    Operation("GET", "/marketplace/pricing", "showPricing", "What providers ask for", market.show_pricing, "market", problems=NODE),
    Operation("GET", "/marketplace/queue", "showQueue", "Work that waits", market.show_queue, "market", problems=NODE),
    # account
    Operation("GET", "/account", "showAccount", "Who the token belongs to, and what the account has", money.show_account, "account", reply=Account, problems=NODE),
    Operation("POST", "/account/deposit", "deposit", "Put credits into the account, once per Idempotency-Key", money.deposit, "account", scope="money", body=DepositRequest, takes_key=True, needs_key=True, reply=Deposited, status=201, problems=(*NODE, "insufficient_funds")),
    Operation("GET", "/account/statement", "showStatement", "Every movement of the account", money.show_statement, "account", reply=Statement, problems=NODE),
    # the gateway itself
    Operation("GET", "/healthz", "healthz", "The process runs", health.healthz, "gateway", auth="none", reply=Health, is_limited=False),
    Operation("GET", "/readyz", "readyz", "Whether requests will be answered, and why not", health.readyz, "gateway", auth="none", reply=Readiness, is_limited=False),
    Operation("GET", "/version", "version", "What runs here", health.version, "gateway", auth="none", reply=Version),
    Operation("GET", "/metrics", "metrics", "Prometheus metrics", health.show_metrics, "gateway", auth="none", reply_media=("text/plain",), is_limited=False),
    Operation("GET", "/openapi.json", "openapi", "This document", handbook.show_openapi, "gateway", auth="none"),
    Operation("GET", "/docs", "docs", "The API for people", handbook.show_docs, "pages", auth="maybe_session", reply_media=HTML, is_api=False),
    Operation("GET", "/docs/problems", "problems", "Every problem and what to do", handbook.show_problems, "pages", auth="maybe_session", reply_media=HTML, is_api=False),
    # the page
    Operation("GET", "/", "overviewPage", "The network at a glance", pages.show_overview, "pages", auth="maybe_session", reply_media=HTML, is_api=False),
    Operation("GET", "/live", "overviewStream", "Fragments of the overview that changed", pages.stream_overview, "pages", auth="maybe_session", reply_media=SSE, is_api=False),
    Operation("GET", "/jobs/{job}", "jobPage", "One job", pages.show_job_page, "pages", auth="session", reply_media=HTML, is_api=False, problems=JOB),
    Operation("GET", "/jobs/{job}/live", "jobStream", "Fragments of the job's page that changed", pages.stream_job, "pages", auth="session", reply_media=SSE, is_api=False, problems=JOB),
    Operation("GET", "/jobs/{job}/log", "jobLogStream", "New lines of the job's log", pages.stream_log, "pages", auth="session", reply_media=SSE, is_api=False, problems=JOB),
    Operation("GET", "/jobs/{job}/files/{path:path}", "jobFile", "A file of the result, for the page", results.download_result, "pages", auth="session", reply_media=(*BINARY, *PICTURES), is_api=False, problems=(*JOB, "not_found")),
    Operation("GET", "/signin", "signInPage", "The form for a token", pages.show_sign_in, "pages", auth="maybe_session", reply_media=HTML, is_api=False),
    Operation("POST", "/signin", "signIn", "Trade a token for a page session", pages.sign_in, "pages", auth="none", body=SignIn, body_media=("application/x-www-form-urlencoded",), status=303, is_api=False, problems=("token_invalid", "foreign_origin")),
    Operation("POST", "/signout", "signOut", "End the page session", pages.sign_out, "pages", auth="none", status=303, is_api=False, problems=("foreign_origin",)),
    Operation("GET", "/static/{name}", "staticFile", "Style and scripts of the page", pages.show_static, "pages", auth="none", reply_media=("text/css", "text/javascript", "image/svg+xml", "text/plain"), is_api=False, is_limited=False, problems=("not_found",)),
)  # fmt: skip
