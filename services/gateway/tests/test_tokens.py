"""The token plane: bytes pass as they are, and nothing that goes wrong is silent or leaks."""

import pytest
from hearth_contracts.deploy import DeploymentState, Engine
from hearth_gateway.__main__ import main
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.store import JobStore

from services.gateway.tests.conftest import Place, StandIn, asking

CHAT = "/api/v1/chat/completions"


@pytest.mark.parametrize("path", [CHAT, CHAT + "/", "/v1/chat/completions", "/v1/completions/"])
def test_a_body_and_its_answer_pass_byte_for_byte(place: Place, path: str) -> None:
    engine = place.serve()
    place.report(engine, "LLM")
    body = asking("LLM", text="ünïcode  \u2028")
    reply = place.http.post(path, content=body, headers={"x-request-id": "abc"})
    assert (reply.status_code, reply.content) == (200, body)
    assert engine.got == [(path.removeprefix("/api").rstrip("/"), body)]
    assert reply.headers["x-request-id"] == "abc"


def test_a_request_that_is_answered_is_in_the_metrics_at_once(place: Place) -> None:
    place.report(place.serve(), "counted-at-once")
    for asked in (1, 2):
        assert place.http.post(CHAT, content=asking("counted-at-once")).status_code == 200
        assert (
            f'model="counted-at-once",route="chat/completions",status="200"}} {asked}.0'
            in place.http.get("/metrics").text
        )


def test_an_event_arrives_before_the_next_is_made(place: Place) -> None:
    engine = place.serve("stream")
    place.report(engine, "LLM")
    with place.http.stream("POST", CHAT, content=asking("LLM", stream=True)) as reply:
        assert reply.headers["x-accel-buffering"] == "no"
        chunks = reply.iter_raw()
        assert next(chunks) == b"data: one\n\n"
        engine.go_on.set()
        assert b"".join(chunks) == b"data: [DONE]\n\n"


def test_a_client_that_leaves_in_mid_stream_ends_the_work(place: Place) -> None:
    engine = place.serve("stream")
    place.report(engine, "LLM")
    with place.http.stream("POST", CHAT, content=asking("LLM", stream=True)) as reply:
        next(reply.iter_raw())
    assert engine.left.wait(5)
    place.eventually(lambda: not place.gateway.router._outstanding)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_byte_ends_the_work(place: Place, stream: bool) -> None:
    engine = place.serve("silent")
    place.report(engine, "LLM")
    import httpx

    with pytest.raises(httpx.ReadTimeout):
        place.http.post(CHAT, content=asking("LLM", stream=stream), timeout=0.5)
    assert engine.left.wait(5)
    place.eventually(lambda: not place.gateway.router._outstanding)


def test_an_engine_that_breaks_off_a_stream_ends_it_with_an_error_event(place: Place) -> None:
    engine = place.serve("half")
    place.report(engine, "LLM")
    text = place.http.post(CHAT, content=asking("LLM", stream=True)).text
    assert text.startswith("data: one\n\n")
    assert '"code": "engine_failed"' in text


def test_an_engine_that_refuses_is_passed_over_for_another(place: Place) -> None:
    good, dead = place.serve(), StandIn()
    place.report(dead, "LLM")
    place.report(good, "LLM")
    for _ in range(4):
        assert place.http.post(CHAT, content=asking("LLM")).status_code == 200
    assert len(good.got) == 4


def test_with_every_engine_refusing_it_is_a_503_with_retry_after(place: Place) -> None:
    place.report(StandIn(), "LLM")
    reply = place.http.post(CHAT, content=asking("LLM"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_unavailable")
    assert reply.headers["retry-after"] == "2"


def test_an_unknown_model_is_a_404_that_lists_what_is_served(place: Place) -> None:
    place.report(place.serve(), "LLM", "my-adapter")
    reply = place.http.post(CHAT, content=asking("gpt-nothing"))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "LLM, my-adapter" in error["message"]


def test_a_model_that_is_being_loaded_is_a_503_with_retry_after(place: Place) -> None:
    store = DeploymentStore(place.redis, JobStore(place.redis))
    store.desire("default", engine=Engine.VLLM, model_id="org/base", adapter_ids=(), served_name="LLM")
    place.report(place.serve(), "LLM", state=DeploymentState.LOADING)
    place.eventually(lambda: "LLM" in place.gateway.router.table.expected)
    reply = place.http.post(CHAT, content=asking("LLM"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_loading")
    assert "retry-after" in reply.headers


def test_a_model_of_the_wrong_kind_is_named_as_such(place: Place) -> None:
    place.report(place.serve(), "Emb", kind=Engine.INFINITY)
    reply = place.http.post(CHAT, content=asking("Emb"))
    assert reply.status_code == 400
    assert "embeds text" in reply.json()["error"]["message"]
    assert place.http.post("/v1/embeddings", content=asking("Emb")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"\xff", 400), (b"[]", 400), (b"{}", 400), (b'{"model": 7}', 400), (b"x" * 20_000, 413)],
)
def test_a_body_that_cannot_be_used_gets_openais_error_object(place: Place, body: bytes, status: int) -> None:
    reply = place.http.post(CHAT, content=body)
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_body_too_large_without_a_length_is_refused_too(place: Place) -> None:
    reply = place.http.post(CHAT, content=(b"x" * 5_000 for _ in range(4)))
    assert reply.status_code == 413


def test_openais_list_has_an_entry_for_each_name_and_the_slash_decides_under_api(place: Place) -> None:
    place.report(place.serve(), "LLM", "ada", adapter_ids=("ada",))
    for path in ("/v1/models", "/v1/models/", "/api/v1/models"):
        entries = {entry["id"]: entry["parent"] for entry in place.http.get(path).json()["data"]}
        assert entries == {"LLM": None, "ada": "org/base"}
    assert place.http.get("/api/v1/models/").status_code == 503  # the control plane's list; management is away here
    assert place.http.get("/v1/models/ada/").json()["id"] == "ada"
    assert place.http.get("/v1/models/org/none").status_code == 404


def test_routes_stay_while_redis_is_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from hearth_gateway import routes
    from redis.exceptions import ConnectionError as RedisConnectionError

    engine = place.serve()
    place.report(engine, "LLM")
    failed = []

    def away(*_: object) -> None:
        failed.append(1)
        raise RedisConnectionError("stopped")

    with monkeypatch.context() as patch:  # stopping the shared server would take it from the other tests
        patch.setattr(routes, "read_table", away)
        place.eventually(lambda: len(failed) > 1)
        assert place.http.post(CHAT, content=asking("LLM")).status_code == 200
    place.redis.flushall()
    place.eventually(lambda: not place.gateway.router.table.ready)


def test_an_address_beyond_loopback_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], redis_url: str
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", redis_url)
    monkeypatch.setenv("HEARTH_GATEWAY_HOST", "0.0.0.0")
    assert main() == 1
    assert "HEARTH_ALLOW_OPEN" in capsys.readouterr().err
