"""LangChain's OpenAI classes against a platform: `langchain_client.py URL`, in the environment `clients`."""

import asyncio
import sys
from typing import Literal

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

NO_SPECIAL = {token: -100 for token in range(6)}  # or the tests' tiny model says nothing that can be read


class Verdict(BaseModel):
    """A verdict."""

    verdict: Literal["yes", "no"]
    sure: bool


def main(url: str) -> None:
    chat = ChatOpenAI(
        base_url=url, api_key="unused", model="Compressa-LLM", max_tokens=400, temperature=0, logit_bias=NO_SPECIAL
    )
    messages = [HumanMessage("Say something.")]
    whole = chat.invoke(messages)
    assert whole.usage_metadata
    assert whole.usage_metadata["output_tokens"] > 0
    pieces = [chunk.text for chunk in chat.stream(messages)]
    assert "".join(pieces) == whole.text
    assert len(pieces) > 2
    assert asyncio.run(chat.ainvoke(messages)).text == whole.text
    chat.frequency_penalty = 2  # or that model repeats one blank for ever
    verdict = chat.with_structured_output(Verdict, method="json_schema").invoke(messages)
    assert isinstance(verdict, Verdict)
    # check_embedding_ctx_length=False: else it sends token numbers of an OpenAI model's vocabulary
    embeddings = OpenAIEmbeddings(
        base_url=url, api_key="unused", model="Compressa-Embedding", check_embedding_ctx_length=False
    )
    rows = embeddings.embed_documents(["A cat.", "A dog."])
    assert [len(row) for row in rows] == [384, 384]
    assert len(embeddings.embed_query("A cat.")) == 384


main(sys.argv[1])
