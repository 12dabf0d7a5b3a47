"""What every service does alike: slashes, problem documents, request ids, health."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.base import Frozen
from hearth_contracts.errors import Conflict, Fault, Invalid
from hearth_web.app import build_app


class Body(Frozen):
    name: str


class DatabaseAway(Exception):
    pass


@pytest.fixture
def client() -> Iterator[TestClient]:
    def away() -> None:
        raise DatabaseAway

    app = build_app(title="t", description="d", checks={"db": away}, unavailable={DatabaseAway: "the database"})

    @app.post("/v1/things")
    def make(body: Body) -> Body:
        return body

    @app.get("/v1/things")
    def known() -> None:
        """Nothing."""

    @app.get("/v1/conflict")
    def conflict() -> None:
        raise Conflict("it is in use by job 7; interrupt that first")

    @app.get("/v1/faults")
    def faults() -> None:
        raise Invalid("2 lines are wrong", faults=[Fault(loc=["line", 3], msg="not JSON")])

    @app.get("/v1/away")
    def gone() -> None:
        raise DatabaseAway("password=secret")

    @app.get("/v1/bug")
    def bug() -> None:
        raise RuntimeError("internal detail")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def problem(reply: httpx.Response, status: int) -> dict[str, object]:
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == status
    return dict(body)


@pytest.mark.parametrize("path", ["/v1/things", "/v1/things/"])
def test_a_path_answers_with_and_without_its_slash_and_keeps_the_body(client: TestClient, path: str) -> None:
    reply = client.post(path, json={"name": "x"}, follow_redirects=False)
    assert (reply.status_code, reply.json()) == (200, {"name": "x"})


def test_a_wrong_method_is_told_every_right_one(client: TestClient) -> None:
    reply = client.delete("/v1/things/")
    problem(reply, 405)
    assert reply.headers["allow"] == "GET, POST"


def test_a_conflict_says_what_to_do(client: TestClient) -> None:
    assert problem(client.get("/v1/conflict"), 409)["detail"] == "it is in use by job 7; interrupt that first"


def test_faults_are_listed_with_their_places(client: TestClient) -> None:
    assert problem(client.get("/v1/faults"), 422)["errors"] == [
        {"loc": ["line", 3], "msg": "not JSON", "type": "value_error"}
    ]


def test_a_body_of_the_wrong_shape_names_the_field(client: TestClient) -> None:
    body = problem(client.post("/v1/things", json={"nam": "x"}), 422)
    assert "body.name: Field required" in str(body["detail"])
    assert "body.nam: Extra inputs are not permitted" in str(body["detail"])


def test_a_body_that_is_not_json_is_a_bad_request(client: TestClient) -> None:
    problem(client.post("/v1/things", content=b"{", headers={"content-type": "application/json"}), 400)


def test_a_dependency_that_is_away_is_a_503_with_retry_after_and_no_secret(client: TestClient) -> None:
    reply = client.get("/v1/away")
    assert problem(reply, 503)["detail"] == "the database is not reachable; try again"
    assert reply.headers["retry-after"] == "2"


def test_the_unforeseen_leaks_nothing(client: TestClient) -> None:
    assert "internal detail" not in str(problem(client.get("/v1/bug"), 500))


def test_unknown_paths_and_methods_are_problems_too(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404)
    problem(client.delete("/v1/things"), 405)


def test_a_well_formed_request_id_is_kept_and_another_replaced(client: TestClient) -> None:
    assert client.get("/health/live", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/health/live", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_ready_names_what_is_away(client: TestClient) -> None:
    reply = client.get("/health/ready")
    assert (reply.status_code, reply.json()) == (503, {"status": "waiting", "away": ["db"]})


def test_routes_are_built_before_the_first_request() -> None:
    app = build_app(title="t", description="d", checks={}, unavailable={})
    with TestClient(app):
        assert app.openapi_schema is not None
