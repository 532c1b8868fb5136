"""The OpenAPI document against the gateway: schemathesis sends what the document allows, and what it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.openapi import document
from gateway.operations import OPERATIONS

if TYPE_CHECKING:
    from schemathesis.checks import CheckFunction
    from schemathesis.schemas import BaseSchema

    from tests.gateway.served import Site

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
STREAMS = [operation.name for operation in OPERATIONS if "text/event-stream" in operation.reply_media]
OWN_BODY = ["uploadBlob", "signIn", "signOut"]
"""Not driven from the document: a raw body has no invalid form, and the forms are tested by the page."""

EXAMPLES = 8
"""Cases per operation: the whole document in a few seconds."""


class Case(Protocol):
    """What is used of schemathesis' case."""

    def call_and_validate(self, base_url: str, headers: dict[str, str], checks: list[CheckFunction]) -> object: ...


raw = document(OPERATIONS, "testnet", "0")
DRIVEN = [operation.name for operation in OPERATIONS if operation.name not in STREAMS + OWN_BODY]


@pytest.fixture(scope="module")
def schema() -> BaseSchema:
    """The document as schemathesis reads it."""
    return schemathesis.openapi.from_dict(raw)


@pytest.fixture(scope="module")
def credentials(site: Site) -> dict[str, str]:
    """Headers of a renter."""
    return {"Authorization": f"Bearer {site.token()}"}


def test_the_document_is_openapi_3_1(site: Site) -> None:
    validate(raw)
    assert site.client().get("/openapi.json").json()["paths"].keys() == raw["paths"].keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", DRIVEN)
def test_the_gateway_does_what_the_document_says(
    name: str, schema: BaseSchema, site: Site, credentials: dict[str, str]
) -> None:
    """Cases are made here: `schema.parametrize` makes all of them at collection, for seconds in every worker."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answered(case: Case) -> None:
        case.call_and_validate(base_url=site.url, headers=credentials, checks=CHECKS)

    (found,) = schema.include(operation_id=name).get_all_operations()
    assert isinstance(found, Ok)
    build_operation_test(
        config=schema.config, operation=found.ok(), test_func=answered, given_kwargs={}, feedback=FeedbackSources()
    )()


@pytest.mark.parametrize("path", ["/docs", "/docs/problems"])
def test_the_pages_for_people_name_everything(site: Site, path: str) -> None:
    text = httpx.get(site.url + path).text
    if path == "/docs":
        assert all(f'id="{operation.name}"' in text for operation in OPERATIONS if operation.tag != "pages")
    else:
        from gateway.problems import PROBLEMS

        assert all(f'id="{code}"' in text for code in PROBLEMS)


def test_the_guide_lists_every_operation_of_the_api() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
    for operation in OPERATIONS:
        if operation.is_api:
            path = operation.path.replace(":path", "")
            assert re.search(rf"^\| {operation.method} \| `{re.escape(path)}` \|", guide, re.MULTILINE), operation.name
