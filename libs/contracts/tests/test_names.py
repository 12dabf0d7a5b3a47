"""Ids are safe wherever they go."""

from hearth_contracts.names import adapter_id_for, is_adapter_id, is_model_id, is_record_id, new_id
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(max_size=300))
def test_any_training_name_gives_a_valid_adapter_id(name: str) -> None:
    assert is_adapter_id(adapter_id_for(name, new_id()))


def test_an_adapter_id_can_be_read_back_to_its_training() -> None:
    assert adapter_id_for("My Adapter Training", "46c155b4-17fe") == "my-adapter-training-46c155b4"


def test_hub_ids_are_model_ids() -> None:
    for text in ("gpt2", "openchat/openchat-3.5-0106", "NousResearch/Llama-2-7b-chat-hf", "TheBloke/m-8x7b-v0.1-AWQ"):
        assert is_model_id(text)


@given(st.text())
def test_a_record_id_is_a_uuid_and_nothing_else(text: str) -> None:
    assert is_record_id(new_id())
    assert not is_record_id(text)
