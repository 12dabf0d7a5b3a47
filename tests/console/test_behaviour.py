"""What the console does: keys, the keyboard, trouble in words, streams that break."""

import json

import pytest
from hearth_contracts.deploy import ReplicaStatus
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.server import server_options
from playwright.sync_api import Browser, Page, Request, Route, expect
from redis import Redis
from uvicorn import Config

from tests.console import world
from tests.console.conftest import Api, Open
from tests.support.browser import visit
from tests.support.servers import free_port, running

SECRET = "hearth_0123456789ab_secret"
REFUSED = '{"title": "Unprocessable", "status": 422, "detail": "it cannot be", "errors": [%s]}'


def focused(page: Page) -> str:
    """The name of what has the focus."""
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"))


def test_a_key_is_asked_for_tried_and_sent_with_each_request(open_page: Open, api: Api) -> None:
    api.key = SECRET
    with open_page("jobs") as visitor:
        page = visitor.page
        field = page.get_by_label("API key", exact=True)
        field.fill("hearth_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not valid")
        assert page.evaluate("sessionStorage.length") == 0
        field.fill(SECRET)
        field.press("Enter")
        expect(page.get_by_role("table", name="Jobs")).to_be_visible()
        assert page.evaluate("[...Object.values(sessionStorage)]") == [SECRET]
        assert SECRET not in json.dumps(page.evaluate("[{...localStorage}, document.cookie, location.href]"))
        page.get_by_role("button", name="Forget my key").click()
        expect(field).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_all_can_be_reached_and_done_with_the_keyboard(open_page: Open, api: Api) -> None:
    with open_page("overview") as visitor:
        page = visitor.page
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the page"
        page.keyboard.press("Tab")  # the mark
        for name in ("Overview", "Models"):
            page.keyboard.press("Tab")
            assert focused(page) == name
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Models")
        page.get_by_label("Model id, or words to search for").focus()
        page.keyboard.type("acme/new")
        with page.expect_request(lambda request: request.method == "POST") as asked:
            page.keyboard.press("Enter")
        assert asked.value.url.endswith("models/add/?model_id=acme%2Fnew")
        page.get_by_role("button", name="Delete acme/house-model").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("button", name="Delete acme/house-model")).to_be_focused()
        assert "DELETE models/acme/house-model" not in api.asked


def test_how_many_replicas_the_load_may_make_and_why_they_are_so_many_is_shown(open_page: Open, api: Api) -> None:
    replicas = ReplicaStatus(desired=2, ready=1, min=1, max=4, reason="14 requests waited in each engine")
    llm = world.DEPLOYMENTS[0].model_copy(update={"status": world.LLM.model_copy(update={"replicas": replicas})})
    api.answers["GET deployments"] = (f"[{llm.model_dump_json()}]", "application/json")
    with open_page("deploy") as visitor:
        expect(visitor.page.get_by_text("1 of 2 answer")).to_be_visible()
        expect(visitor.page.get_by_text("1 to 4; 14 requests waited in each engine")).to_be_visible()


def test_what_is_taken_away_is_asked_about_once_more(open_page: Open, api: Api) -> None:
    api.answers["DELETE models/acme/house-model"] = ("", "application/json")
    with open_page("models") as visitor:
        page = visitor.page
        page.get_by_role("button", name="Delete acme/house-model").click()
        assert "DELETE models/acme/house-model" not in api.asked
        page.get_by_role("button", name="Delete it").click()
        expect(page.get_by_role("status").filter(has_text="was deleted")).to_be_visible()
        assert "DELETE models/acme/house-model" in api.asked


def test_trouble_is_told_in_words_where_it_belongs(open_page: Open, api: Api) -> None:
    fault = '{"loc": ["body", "hyperparameters", "lora_rank"], "msg": "must be at most 256"}'
    api.problems["POST finetune/plan"] = (422, REFUSED % fault)
    api.problems["GET system"] = (503, '{"detail": "Redis is not reachable"}')
    with open_page("finetune/new") as visitor:
        page = visitor.page
        page.get_by_label("LoRA rank").fill("999")
        expect(page.get_by_label("LoRA rank")).to_have_accessible_description("must be at most 256")
        expect(page.get_by_label("LoRA rank")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_role("alert")).to_contain_text("it cannot be")
        page.goto("/#/overview")
        expect(page.get_by_role("region", name="Machine").get_by_role("alert")).to_contain_text(
            "Redis is not reachable"
        )
        expect(page.get_by_role("region", name="Served")).to_contain_text("ready")  # the rest of the page goes on


def test_how_long_a_dataset_is_for_the_model_is_said_before_a_run_begins(open_page: Open, api: Api) -> None:
    with open_page("finetune/new") as visitor:
        card = visitor.page.get_by_role("region", name="What it takes")
        expect(card).to_contain_text("1,263,000 tokens: 300 a row, 912 in the longest.")
        expect(card).to_contain_text("Of a longer row than 768 tokens (Max length) the rest is not learnt.")
        api.problems["GET finetune/tokens"] = (422, '{"detail": "it has no tokenizer.json"}')
        visitor.page.reload()
        expect(card).to_contain_text("Its tokens cannot be counted: it has no tokenizer.json")
        expect(card.get_by_role("button", name="Begin")).to_be_enabled()


def test_what_was_away_is_shown_once_it_is_back(open_page: Open, api: Api) -> None:
    api.problems["GET models"] = (503, '{"detail": "this part of Hearth is not reachable"}')
    with open_page("models") as visitor:
        expect(visitor.page.get_by_role("alert")).to_contain_text("not reachable")
        del api.problems["GET models"]
        expect(visitor.page.get_by_role("table", name="Models and adapters")).to_be_visible()
        expect(visitor.page.get_by_role("alert")).to_have_count(0)


def test_a_user_sees_what_is_for_users_and_why_not_more(open_page: Open, api: Api) -> None:
    for name in ("GET keys", "GET audit", "GET jobs"):
        api.problems[name] = (403, '{"detail": "GET /api/v1/jobs/ needs an API key with the role admin"}')
    with open_page("keys") as visitor:
        page = visitor.page
        expect(page.get_by_role("table", name="Usage by key and model")).to_be_visible()
        expect(page.get_by_text("Yours shows your own usage")).to_be_visible()
        page.goto("/#/jobs")
        expect(page.get_by_role("alert")).to_contain_text("role admin")


def test_a_stream_that_breaks_is_taken_up_after_the_last_line_that_was_seen(open_page: Open) -> None:
    about, last_ids = world.JOBS[0], []

    def half(route: Route, request: Request) -> None:
        last_ids.append(request.headers.get("last-event-id"))
        lines = [("message", "7", "first line")] if len(last_ids) == 1 else [("message", "9", "second line")]
        end = [] if len(last_ids) == 1 else [("end", "0", about.model_dump_json())]
        route.fulfill(body=world.events(*lines, *end), content_type="text/event-stream")

    with open_page("overview") as visitor:
        visitor.page.context.route(f"**/jobs/{about.id}/logs/", half)
        visitor.page.goto(f"/#/jobs/{about.id}")
        expect(visitor.page.get_by_role("log")).to_have_text("first line\nsecond line")
        assert last_ids == [None, "7"]


def test_a_run_that_went_back_to_a_checkpoint_is_drawn_without_what_is_void(open_page: Open, api: Api) -> None:
    run = world.FINETUNES[0]
    points = [*world.curve(20, 150), *world.curve(12, 150, start=5.0)[10:]]
    sent = [("message", str(point.step), point.model_dump_json()) for point in points]
    name = f"GET finetune/{run.id}/metrics"
    api.answers[name] = (world.events(*sent, ("end", "0", run.model_dump_json())), "text/event-stream")
    words = f"loss from {points[0].loss:.3g} to {points[-1].loss:.3g} in 12 points"
    with open_page(f"finetune/{run.id}") as visitor:
        expect(visitor.page.get_by_role("img").first).to_have_accessible_name(f"Loss of {run.name}: {words}")


def test_faults_of_a_file_are_shown_at_their_lines(open_page: Open, api: Api) -> None:
    faults = '{"loc": ["line", 2, "messages", 0, "role"], "msg": "there is no role boss"}'
    api.problems["POST datasets/upload"] = (422, REFUSED % faults)
    file = {
        "name": "bad.jsonl",
        "mimeType": "text/plain",
        "buffer": b'{"good": 1}\n{"bad": "the second"}\n{"good": 3}\n',
    }
    with open_page("datasets") as visitor:
        page = visitor.page
        page.get_by_label("Choose a file").set_input_files(file)  # type: ignore[arg-type]
        row = page.get_by_role("table", name="Faults").locator("tbody tr")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("messages.0.role")
        expect(row).to_contain_text('{"bad": "the second"}')


@pytest.mark.parametrize(
    ("system", "chosen", "dark"), [("dark", None, True), ("light", "dark", True), ("dark", "light", False)]
)
def test_colours_are_the_systems_until_others_are_chosen_and_stay(
    open_page: Open, system: str, chosen: str | None, dark: bool
) -> None:
    with open_page("jobs", theme=system) as visitor:
        page = visitor.page
        if chosen:
            page.get_by_label("Colours").select_option(chosen)
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) is dark


def test_on_a_phone_the_pages_are_behind_a_button(open_page: Open) -> None:
    with open_page("overview", "phone") as visitor:
        page = visitor.page
        expect(page.get_by_role("navigation")).to_be_hidden()
        page.get_by_role("button", name="Menu").click()
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        expect(page.get_by_role("navigation")).to_be_hidden()


def test_the_first_key_is_made_shown_once_and_used_from_then_on(open_page: Open, api: Api) -> None:
    made = world.KEYS[0].model_dump(mode="json") | {"secret": SECRET}
    api.answers["POST keys"] = (json.dumps(made), "application/json")
    api.answers["GET keys"] = ("[]", "application/json")
    with open_page("keys") as visitor:
        page = visitor.page
        page.get_by_role("button", name="New key").click()
        page.get_by_label("Name", exact=True).fill("boss")
        page.get_by_role("button", name="Make").click()
        expect(page.get_by_role("dialog")).to_contain_text(SECRET)
        page.get_by_role("button", name="I have kept it").click()
        with page.expect_request("**/deployments/") as asked:
            page.goto("/#/overview")
        assert asked.value.headers["authorization"] == f"Bearer {SECRET}"


def test_a_chat_streams_side_by_side_and_tells_which_model_failed(open_page: Open, api: Api) -> None:
    def answer(route: Route, request: Request) -> None:
        body = request.post_data_json
        if body["model"] == world.ADAPTER:
            route.fulfill(status=503, body='{"error": {"message": "it is being loaded"}}', headers={"retry-after": "2"})
            return
        words = [{"choices": [{"delta": {"content": word}}]} for word in ("Good ", "day")]
        events = [*words, {"choices": [], "usage": {"completion_tokens": 2}}]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        route.fulfill(body=text, content_type="text/event-stream")

    with open_page("playground") as visitor:
        page = visitor.page
        page.context.route("**/chat/completions", answer)
        page.get_by_label("Your message").fill("Hello!")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("article", name="Answer of Compressa-LLM")).to_contain_text("Good day")
        expect(page.get_by_role("article", name=f"Answer of {world.ADAPTER}")).to_contain_text("it is being loaded")
        page.get_by_role("button", name="As code").click()
        code = page.get_by_role("dialog").locator("pre")
        expect(code).to_contain_text('"content": "Good day"')
        page.get_by_label("Language").select_option("Python")
        expect(code).to_contain_text("chat.completions.create")


def test_what_others_wrote_is_shown_as_text(open_page: Open, api: Api) -> None:
    script = "<img src=x onerror=\"document.title='caught'\"><script>document.title='caught'</script>"
    row = {"line": 1, "messages": [{"role": "user", "content": script}], "learn": [False], "tools": None}
    about = world.DATASETS[0].model_copy(update={"name": script, "description": script})
    api.answers[f"GET datasets/{about.id}/metadata"] = (about.model_dump_json(), "application/json")
    api.answers[f"GET datasets/{about.id}/preview"] = (json.dumps({"rows": [row], "next": None}), "application/json")
    with open_page(f"datasets/{about.id}") as visitor:
        page = visitor.page
        expect(page.locator(".said")).to_have_text(script)
        expect(page.get_by_role("heading", name=script)).to_be_visible()
        assert page.locator("main img, main script").count() == 0
        assert page.title() == "Datasets · Hearth"


def test_under_a_path_everything_is_asked_for_below_it(browser: Browser, redis: Redis) -> None:
    port, away = free_port(), f"http://127.0.0.1:{free_port()}"
    gateway = Gateway(GatewaySettings(management_url=away, dataset_url=away, root_path="/llm"), redis)
    url = f"http://127.0.0.1:{port}"
    with (
        running(Config(gateway, **(server_options(gateway.settings) | {"port": port}))),
        visit(browser, url) as visitor,
    ):
        asked: list[str] = []
        visitor.page.on("request", lambda request: asked.append(request.url.removeprefix(url)))
        visitor.page.goto("/llm")
        expect(visitor.page.get_by_role("region", name="Served").get_by_role("alert")).to_contain_text("not reachable")
        assert "/llm/api/v1/deployments/" in asked
        assert [path for path in asked if not path.startswith("/llm")] == []
        visitor.check()
