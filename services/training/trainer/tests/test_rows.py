"""What is learnt of a row, token by token, and which rows are refused. All cases in one process: imports are slow."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.finetune import RefusedEvent
from hearth_contracts.hyperparameters import Hyperparameters

from services.training.trainer.tests.conftest import CONVERSATIONS, MODEL_ID, in_training, spec_for
from services.training.trainer.tests.conftest import train as run_to_the_end

pytestmark = pytest.mark.timeout(400)
PROGRAM = """
import itertools, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
from pathlib import Path
from hearth_contracts.finetune import RunSpec
from hearth_trainer.masking import IGNORED
from hearth_trainer.model import check_base, load_tokenizer
from hearth_trainer.refusal import Refused
from hearth_trainer.rows import encode_split
answers = {}
for path in sys.argv[1:]:
    spec = RunSpec.model_validate_json(Path(path).read_text())
    try:
        vocabulary = check_base(spec)
        tokenizer = load_tokenizer(spec)
        rows = []
        for example in encode_split(tokenizer, spec, vocabulary).train:
            pairs = zip(example.input_ids, example.labels, strict=True)
            groups = itertools.groupby(pairs, key=lambda pair: pair[1] != IGNORED)
            assert all(label in (token, IGNORED) for token, label in zip(example.input_ids, example.labels))
            rows.append([tokenizer.decode([label for _, label in group]) for learnt, group in groups if learnt])
        answers[Path(path).stem] = rows
    except Refused as refusal:
        answers[Path(path).stem] = str(refusal)
print("ANSWERS" + json.dumps(answers))
"""

SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


WEIGHTED = [{"messages": [SYSTEM, user("Hi"), says("Wrong.", weight=0), user("Again"), says("Right.", weight=1)]}]
# The first learnt turn is one that the template rewrites later, so that only markers can find it.
MIXED = [{"messages": [user("a"), says("One."), user("b"), says("Wrong.", weight=0), user("c"), says("Right.")]}]
TURNS = [{"messages": [SYSTEM, user("Hi <|x|>"), says("Hello, you!"), user("And?"), says("Né 🔥\nbye")]}]
SHAREGPT = [
    {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello."},
            {"from": "user", "value": "And?"},
            {"from": "assistant", "value": "Bye."},
        ]
    }
]
LONG = [
    {"messages": [user("Hi"), says("Hello.")]},
    {"messages": [user("word " * 60), says("Hello.")]},
    {"messages": [user("Hi"), says("Hello.")]},
    {"messages": [user("word " * 90), says("Hello.")]},
]
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
# As models that think do: what they thought in earlier turns is left out.
FORGETFUL = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}"
    "OPEN{% if loop.last %}{{ '(thinking) ' }}{% endif %}{{ m['content'] + '<|end|>' }}CLOSE"
    "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
NEW_TOKEN = "<|new|>"


def add_token(folder: Path) -> None:
    """Let the tokenizer have a token more than the model has embeddings."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    last = max(tokenizer["added_tokens"], key=lambda token: token["id"])
    tokenizer["added_tokens"].append({**last, "id": len(tokenizer["model"]["vocab"]), "content": NEW_TOKEN})
    path.write_text(json.dumps(tokenizer))


@pytest.fixture(scope="module")
def answers(marked: Path, unmarked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """For each case: of each row the stretches of text that are learnt, or why it was refused."""
    folder = tmp_path_factory.mktemp("rows")

    def model(name: str, change: Callable[[str], str]) -> Path:
        copy = folder / name
        shutil.copytree(unmarked, copy)
        template = copy / "chat_template.jinja"
        template.write_text(change(template.read_text()))
        return copy

    strict = model("strict", lambda text: STRICT + text)
    forgetful = model("forgetful", lambda _: FORGETFUL.replace("OPEN", "").replace("CLOSE", ""))
    opening, closing = "{% generation %}", "{% endgeneration %}"
    told = model("told", lambda _: FORGETFUL.replace("OPEN", opening).replace("CLOSE", closing))

    foreign = model("foreign", lambda text: text)
    add_token(foreign)

    specs: list[Path] = []

    def case(name: str, base: Path, rows: list[dict[str, Any]] | None, **changes: Any) -> None:
        data = CONVERSATIONS
        if rows is not None:
            data = folder / f"{name}.jsonl"
            data.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        specs.append(folder / f"{name}.json")
        specs[-1].write_text(spec_for(base, folder / "work", data, **changes).model_dump_json())

    case("all marked", marked, None)
    case("all unmarked", unmarked, None)
    case("turns", unmarked, TURNS)
    case("weighted", unmarked, WEIGHTED)
    case("sharegpt", unmarked, SHAREGPT, data_format=DatasetFormat.SHAREGPT)
    case("long", unmarked, LONG, hyperparameters=Hyperparameters(max_length=32))
    case("strict", strict, [*TURNS, {"messages": [user("Hi"), says("Hello.")]}, *TURNS])
    case("forgetful", forgetful, TURNS)
    case("told", told, TURNS)
    case("told weighted", told, MIXED)
    case("foreign", foreign, [*TURNS, {"messages": [user(f"What is {NEW_TOKEN}?"), says("Hello.")]}, *TURNS])
    out = in_training("-c", PROGRAM, *specs)
    found: dict[str, Any] = json.loads(out.rpartition("ANSWERS")[2])
    return found


@pytest.mark.parametrize("kind", ["marked", "unmarked"])
def test_exactly_the_assistants_words_and_its_end_of_turn_are_learnt(answers: dict[str, Any], kind: str) -> None:
    rows = [json.loads(line)["messages"] for line in CONVERSATIONS.read_text().splitlines()]
    assert answers[f"all {kind}"] == [[messages[-1]["content"] + "<|end|>"] for messages in rows]


def test_each_turn_of_the_assistant_is_learnt(answers: dict[str, Any]) -> None:
    assert answers["turns"] == [["Hello, you!<|end|>", "Né 🔥\nbye<|end|>"]]


def test_a_turn_of_weight_0_is_shown_but_not_learnt(answers: dict[str, Any]) -> None:
    assert answers["weighted"] == [["Right.<|end|>"]]


def test_sharegpt_rows_are_learnt_alike(answers: dict[str, Any]) -> None:
    assert answers["sharegpt"] == [["Hello.<|end|>", "Bye.<|end|>"]]


def test_a_template_that_rewrites_earlier_turns_is_learnt_by_its_markers(answers: dict[str, Any]) -> None:
    assert answers["told"] == [["Hello, you!<|end|>", "(thinking) Né 🔥\nbye<|end|>"]]


def test_weight_0_holds_where_markers_are_used(answers: dict[str, Any]) -> None:
    assert answers["told weighted"] == [["One.<|end|>", "(thinking) Right.<|end|>"]]


def test_a_template_that_rewrites_earlier_turns_without_markers_is_refused(answers: dict[str, Any]) -> None:
    assert answers["forgetful"].startswith(f"1 rows do not fit {MODEL_ID}: line 1: ")
    assert "{% generation %}" in answers["forgetful"]


def test_rows_whose_answers_are_cut_off_are_refused_by_line(answers: dict[str, Any]) -> None:
    reason = answers["long"]
    assert "2 rows" in reason and "lines 2, 4" in reason and "max_length=32" in reason
    needed = int(reason.partition("Set max_length to ")[2].partition(" ")[0])
    assert needed > 90


def test_rows_that_the_template_rejects_are_refused_by_line_in_its_own_words(answers: dict[str, Any]) -> None:
    reason = answers["strict"]
    assert reason.startswith(f"2 rows do not fit {MODEL_ID}: line 1: ")
    assert "line 3: " in reason and "line 2" not in reason
    assert "System role not supported" in reason


def test_tokens_outside_the_vocabulary_are_refused_by_line(answers: dict[str, Any]) -> None:
    reason = answers["foreign"]
    assert reason.startswith(f"1 rows have tokens that {MODEL_ID} has no embedding for (up to 2048; it has 2048): ")
    assert "lines 2. " in reason


def test_a_model_without_a_chat_template_is_refused_with_an_event(unmarked: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(unmarked, bare)
    (bare / "chat_template.jinja").unlink()
    ended = run_to_the_end(spec_for(bare, tmp_path / "run"))
    assert ended.code == 0, ended.log[-3000:]
    last = ended.events[-1]
    assert isinstance(last, RefusedEvent)
    assert MODEL_ID in last.reason and "no chat template" in last.reason and "instruct" in last.reason
    assert not (tmp_path / "run" / "adapter").exists()
