"""LlamaIndex's OpenAI classes against a platform: `llamaindex_client.py URL`, in the environment `clients`."""

import sys

from llama_index.core.base.llms.types import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

NO_SPECIAL = {"logit_bias": {str(token): -100 for token in range(6)}}  # or the tests' tiny model says nothing


def main(url: str) -> None:
    llm = OpenAILike(
        model="Compressa-LLM",
        api_base=url,
        api_key="unused",
        is_chat_model=True,
        max_tokens=12,
        temperature=0,
        additional_kwargs=NO_SPECIAL,
    )
    messages = [ChatMessage(role="user", content="Say something.")]
    whole = llm.chat(messages).message.content
    pieces = [chunk.delta or "" for chunk in llm.stream_chat(messages)]
    assert "".join(pieces) == whole
    assert len(pieces) > 2
    plain = OpenAILike(
        model="Compressa-LLM",
        api_base=url,
        api_key="unused",
        is_chat_model=False,
        max_tokens=12,
        temperature=0,
        additional_kwargs=NO_SPECIAL,
    )
    assert plain.complete("Hello").text
    embedding = OpenAILikeEmbedding(model_name="Compressa-Embedding", api_base=url, api_key="unused")
    assert len(embedding.get_query_embedding("A cat.")) == 384
    assert [len(row) for row in embedding.get_text_embedding_batch(["A cat.", "A dog."])] == [384, 384]


main(sys.argv[1])
