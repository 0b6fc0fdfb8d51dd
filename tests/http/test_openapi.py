"""`/openapi.json`: complete, valid, true of the routes, and what the gateway answers is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from yarl import URL

from gateway.http import openapi
from gateway.http.app import routes
from gateway.http.operations import OPERATIONS
from gateway.stream.query import PARAMETERS
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.manager import LONGEST_OVERLAP
from tests.http.checks import bearer, fields, problem_of
from tests.http.fakes import World, row, source_event, task_event

DOCUMENT = openapi.document()
DESCRIBED = {(operation.method, operation.path): operation.scopes for operation in OPERATIONS}
ROUTES = {(route.method, route.path): route.scopes for route in routes(World().parts)}
ADMIN = bearer("admin")


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Of a schema of the document, whose references lead to its components."""
    return Draft202012Validator({"components": DOCUMENT["components"], **schema})


def test_it_is_openapi() -> None:
    """By the validator of the specification."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_route_is_described_with_its_scopes() -> None:
    """A route that nobody describes is one that nobody finds."""
    assert {key: DESCRIBED.get(key, "not described") for key in ROUTES} == ROUTES


def test_everything_described_is_a_route() -> None:
    """A description without a route is a promise that nobody keeps."""
    assert DESCRIBED.keys() == ROUTES.keys()


def test_operations_are_named_once() -> None:
    """Code generators make a function of each."""
    names = [operation.id for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert len(DESCRIBED) == len(OPERATIONS)


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything with a schema and an example, and where it is."""
    paths = {**DOCUMENT["paths"], "webhooks": DOCUMENT["webhooks"]["event"]}
    for path, methods in paths.items():
        for method, operation in methods.items():
            bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media, content in body.get("content", {}).items():
                    yield f"{method} {path} {name} {media}", content


EXAMPLES = {where: content for where, content in contents() if "example" in content}


@pytest.mark.parametrize("where", EXAMPLES)
def test_examples_are_true(where: str) -> None:
    """Each fits its schema."""
    content = EXAMPLES[where]
    validator(content["schema"]).validate(content["example"])


def test_every_json_answer_has_an_example() -> None:
    """But those of documents, which are their own example, and errors, which have one in common."""
    without = {where for where, content in contents() if "example" not in content}
    assert {where for where in without if "problem+json" not in where} == {
        "get /v1/stream 200 text/event-stream",
        "get /schemas/{name}.json 200 application/schema+json",
        "get /openapi.json 200 application/json",
        "get /asyncapi.json 200 application/json",
        "get /metrics 200 text/plain",
    }
    problem = DOCUMENT["components"]["schemas"]["Problem"]
    validator(problem).validate(problem["examples"][0])


def test_what_creates_an_endpoint_is_what_the_configuration_takes() -> None:
    """The same settings; the secret may be left out, and a change may leave out everything but must not rename."""
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["EndpointSettings"]["properties"]) == set(EndpointConfig.model_fields)
    assert schemas["EndpointSettings"]["required"] == ["name", "url"]
    assert set(schemas["EndpointChange"]["properties"]) == set(EndpointConfig.model_fields) - {"name"}
    shown = set(EndpointConfig.model_fields) - {"secret"}
    assert set(schemas["Endpoint"]["properties"]) == shown | {"origin", "secrets", "health"}
    change = validator(schemas["EndpointChange"])
    assert change.is_valid({"rate_limit": None, "type": "task.*"})
    assert not change.is_valid({"nmae": "x"})


def test_a_change_may_take_a_header_out() -> None:
    """null inside of `headers`, as a merge patch says it; a new endpoint has no header to take out."""
    schemas = DOCUMENT["components"]["schemas"]
    change, settings = validator(schemas["EndpointChange"]), validator(schemas["EndpointSettings"])
    assert change.is_valid({"headers": {"A": "b", "C": None}})
    assert change.is_valid({"headers": None})
    assert not change.is_valid({"headers": {"A": 5}})
    assert not settings.is_valid({"name": "a", "url": "https://example.com/", "headers": {"C": None}})


def test_an_overlap_has_the_bounds_that_the_gateway_holds_it_to() -> None:
    rotation = validator(DOCUMENT["components"]["schemas"]["RotateRequest"])
    assert rotation.is_valid({"overlap": LONGEST_OVERLAP})
    assert not rotation.is_valid({"overlap": LONGEST_OVERLAP + 1})


# --- parameters -------------------------------------------------------------------------------------------------------

QUERIES = {(route.method, route.path): route.query for route in routes(World().parts)}
#: A value for each that is taken where it is known.
VALUES = {
    "source": "studio", "task": "studio/t1", "kind": "k", "status": "running", "type": "task.*", "after": "0", "limit": "5",
    "cursor": "", "state": "dead", "token": "admin", "snapshot": "true", "subscribe": "none", "stauts": "failed",
}  # fmt: skip


def declared(method: str, path: str) -> set[str]:
    """The names of an operation's parameters of the query, as its document gives them."""
    operation = DOCUMENT["paths"][path][method.lower()]
    found = [
        DOCUMENT["components"]["parameters"][item["$ref"].rpartition("/")[2]] if "$ref" in item else item
        for item in operation.get("parameters", [])
    ]
    return {item["name"] for item in found if item["in"] == "query"}


ASKED = sorted(key for key in QUERIES if key[1].startswith("/v1/") and key[1] != "/v1/stream")
CASES = [
    (method, path, name, name in declared(method, path) | {"token"})
    for method, path in ASKED
    for name in VALUES
]  # fmt: skip


def test_queries_are_described() -> None:
    """Of every resource under `/v1`: what it knows is what is declared. Elsewhere nobody looks."""
    assert {key: set(QUERIES[key] or ()) for key in ASKED} == {key: declared(*key) for key in ASKED}
    assert {key for key, known in QUERIES.items() if known is not None} == set(ASKED)
    assert declared("GET", "/v1/stream") == set(PARAMETERS)


@pytest.mark.parametrize(("method", "path", "name", "known"), CASES)
async def test_what_is_declared_is_taken_and_nothing_else(
    client: TestClient, world: World, method: str, path: str, name: str, known: bool
) -> None:
    """What is not is named, beside what is; the value is said back to nobody."""
    world.add(row("studio/t1", sequence=1))
    url = path.format(source="studio", id="t1", name="billing")
    async with client.request(method, url, params={name: VALUES[name]}, headers=ADMIN) as response:
        text = await response.text()
        if known:
            assert "unknown_parameter" not in text
            assert response.status == 200 or path not in ("/v1/tasks", "/v1/events"), text
            return
        body = await problem_of(response, 400, "unknown_parameter")
        assert fields(body) == [name]
        listed = body["detail"].removeprefix(f"unknown parameter: {name!r}; known: ").split(", ")
        assert set(listed) == declared(method, path) | {"token"}
        schema = DOCUMENT["paths"][path][method.lower()]["responses"]["400"]["content"][response.content_type]["schema"]
        validator(schema).validate(body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_nothing_that_is_sent_as_a_name_does_harm(client: TestClient, method: str) -> None:
    """Many, long, and such as no text can have; a HEAD is refused as well."""
    query = "&".join(["%ff=hush", f"{'y' * 900}=hush", "=hush", *(f"n{number}=hush" for number in range(300))])
    async with client.request(method, URL(f"/v1/tasks?{query}", encoded=True), headers=ADMIN) as response:
        assert response.status == 400
        text = await response.text()
    if method == "GET":
        assert [item["field"] for item in json.loads(text)["errors"]] == ["\ufffd", "y" * 32, "", "n0", "n1"]
        assert "hush" not in text


async def test_elsewhere_parameters_are_nobodys_business(client: TestClient) -> None:
    """Probes and browsers add what they like."""
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/schemas/"):
        async with client.get(f"{path}?v=3", headers=ADMIN) as response:
            assert response.status == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
async def test_it_is_served(client: TestClient, path: str) -> None:
    """As JSON, to any valid token; the tools that read it are told nothing else."""
    async with client.get(path, headers=bearer("nothing")) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert next(iter(await response.json())) in path
    async with client.get(path) as response:
        await problem_of(response, 401)


ANSWERS = [
    ("GET", "/v1/tasks", "/v1/tasks", 200), ("GET", "/v1/tasks?limit=0", "/v1/tasks", 400),
    ("GET", "/v1/tasks/studio/t1", "/v1/tasks/{source}/{id}", 200), ("GET", "/v1/tasks/studio/no", "/v1/tasks/{source}/{id}", 404),
    ("GET", "/v1/tasks/studio/t1/download", "/v1/tasks/{source}/{id}/download", 200),
    ("GET", "/v1/events", "/v1/events", 200), ("GET", "/v1/events?after=9999", "/v1/events", 410),
    ("GET", "/v1/watches", "/v1/watches", 200), ("POST", "/v1/watches", "/v1/watches", 415),
    ("DELETE", "/v1/watches/studio/t1", "/v1/watches/{source}/{id}", 404),
    ("GET", "/schemas/", "/schemas/", 200), ("GET", "/schemas/event.json", "/schemas/{name}.json", 200),
    ("GET", "/schemas/openapi.json", "/schemas/{name}.json", 404),
    ("GET", "/healthz", "/healthz", 200), ("GET", "/readyz", "/readyz", 200), ("GET", "/metrics", "/metrics", 200),
]  # fmt: skip


@pytest.mark.parametrize(("method", "url", "path", "status"), ANSWERS)
async def test_answers_are_as_described(
    client: TestClient, world: World, method: str, url: str, path: str, status: int
) -> None:
    """Status, content type and body."""
    world.add(row("studio/t1", sequence=1))
    world.log(task_event(1, "studio/t1"), source_event(2, "studio"))
    data = b"<a/>" if method == "POST" else None
    headers = {**ADMIN, "Content-Type": "text/xml"} if data else ADMIN
    async with client.request(method, url, headers=headers, data=data) as response:
        assert response.status == status
        described = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
        assert response.content_type in described["content"]
        schema = described["content"][response.content_type]["schema"]
        text = await response.text()
        validator(schema).validate(json.loads(text) if "json" in response.content_type else text)


@pytest.mark.parametrize("kind", ["text/html", "multipart/form-data; boundary=x", "text/yaml"])
async def test_a_body_that_is_said_to_be_something_else(client: TestClient, kind: str) -> None:
    """415, and what is taken."""
    async with client.post("/v1/watches", data=b"{}", headers={**ADMIN, "Content-Type": kind}) as response:
        await problem_of(response, 415, "unsupported_media_type")
        assert response.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/vnd.x+json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ],
)
async def test_a_body_that_may_be_json(client: TestClient, kind: str) -> None:
    """It is read."""
    async with client.post("/v1/watches", data=b"{}", headers={**ADMIN, "Content-Type": kind}) as response:
        await problem_of(response, 400, "invalid_body")


@pytest.mark.parametrize(
    "path", sorted({operation.path for operation in OPERATIONS if (operation.method, operation.path) in ROUTES})
)
async def test_methods_that_are_not_described_are_refused(client: TestClient, path: str) -> None:
    """405, and `Allow` says which there are."""
    described = {method.upper() for method in DOCUMENT["paths"][path]} & {
        method for method, where in ROUTES if where == path
    }
    wrong = next(method for method in ("PUT", "PATCH") if method not in described)
    url = path.format(source="studio", id="t1", name="event")
    async with client.request(wrong, url, headers=ADMIN) as response:
        await problem_of(response, 405, "method_not_allowed")
        head = {"HEAD"} if "GET" in described and path != "/v1/stream" else set()
        assert set(response.headers["Allow"].split(", ")) == described | head | {"OPTIONS"}
