"""The token plane's routes as OpenAPI. What an engine takes beyond these fields is passed on to it untouched."""

from typing import Any

from hearth_contracts.openai import OpenAIError
from pydantic.json_schema import models_json_schema

TAG = ["OpenAI-like API"]
QUESTION = "Who won the world series in 2020?"


def _object(fields: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object that may have more fields than these."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": True}


def _list(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
TOKENS = _list({"type": "integer", "minimum": 0}, minItems=1)
MODEL = {
    "type": "string",
    "minLength": 1,
    "description": "Compressa-LLM, a base's id, an adapter's id, Compressa-Embedding, or the reranker's name",
}
SAMPLING = {
    "max_tokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "n": {"type": "integer", "minimum": 1, "description": "answers to make"},
    "stop": {"anyOf": [TEXT, _list(TEXT), {"type": "null"}]},
    "seed": {"type": ["integer", "null"]},
    "stream": {"type": "boolean", "default": False},
    "stream_options": _object({"include_usage": {"type": "boolean"}}),
}
MESSAGE = _object({"role": TEXT, "content": {"type": ["string", "array", "null"]}}, "role")
LOGPROBS = {"type": ["object", "null"]}
FINISH = {"type": ["string", "null"], "description": "stop, length or tool_calls"}

SCHEMAS: dict[str, Any] = {
    **models_json_schema([(OpenAIError, "serialization")], ref_template="#/components/schemas/{model}")[1]["$defs"],
    "Usage": _object({"prompt_tokens": COUNT, "total_tokens": COUNT}, "prompt_tokens", "total_tokens"),
    "Completion": _object(
        {
            "id": TEXT,
            "object": {"const": "text_completion"},
            "created": COUNT,
            "model": TEXT,
            "choices": _list(
                _object({"index": COUNT, "text": TEXT, "logprobs": LOGPROBS, "finish_reason": FINISH}, "index", "text")
            ),
            "usage": _reference("Usage"),
        },
        "id", "object", "created", "model", "choices", "usage",
    ),
    "ChatCompletion": _object(
        {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": COUNT,
            "model": TEXT,
            "choices": _list(
                _object(
                    {"index": COUNT, "message": MESSAGE, "logprobs": LOGPROBS, "finish_reason": FINISH},
                    "index", "message",
                )
            ),
            "usage": _reference("Usage"),
        },
        "id", "object", "created", "model", "choices", "usage",
    ),
    "Embeddings": _object(
        {
            "object": {"const": "list"},
            "model": TEXT,
            "data": _list(
                _object(
                    {
                        "object": {"const": "embedding"},
                        "index": COUNT,
                        "embedding": {"anyOf": [_list({"type": "number"}), TEXT]},  # text: base64
                    },
                    "object", "index", "embedding",
                )
            ),
            "usage": _reference("Usage"),
        },
        "object", "model", "data", "usage",
    ),
    "Ranking": _object(
        {
            "model": TEXT,
            "results": _list(
                _object(
                    {
                        "index": {**COUNT, "description": "the document's place in the request"},
                        "relevance_score": {"type": "number"},
                        "document": {"type": ["string", "object", "null"], "description": "with `return_documents`"},
                    },
                    "index", "relevance_score",
                ),
                description="the most relevant first",
            ),
        },
        "results",
    ),
    "ServedModel": _object(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": COUNT,
            "owned_by": TEXT,
            "parent": {"type": ["string", "null"], "description": "an adapter's base"},
        },
        "id", "object", "created", "owned_by",
    ),
    "ServedModels": _object({"object": {"const": "list"}, "data": _list(_reference("ServedModel"))}, "object", "data"),
}  # fmt: skip


def openai_document() -> dict[str, Any]:
    """What the services' documents are for their routes, for the gateway's own."""
    return {"info": {"title": "Hearth gateway"}, "paths": _paths(), "components": {"schemas": SCHEMAS}}


def _paths() -> dict[str, Any]:
    sampling = {"max_tokens": 128, "temperature": 0.5, "stream": False}
    return {
        "/v1/completions": _post(
            "Create completion",
            "Completion",
            {"model": MODEL, "prompt": {"anyOf": [TEXT, _list(TEXT, minItems=1), TOKENS]}, **SAMPLING},
            ("model", "prompt"),
            {"model": "Compressa-LLM", "prompt": QUESTION, **sampling},
        ),
        "/v1/chat/completions": _post(
            "Create chat completion",
            "ChatCompletion",
            {
                "model": MODEL,
                "messages": _list(MESSAGE, minItems=1),
                **SAMPLING,
                "logprobs": {"type": "boolean"},
                "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
                "response_format": _object({"type": TEXT}, "type"),
                "tools": _list(_object({"type": TEXT, "function": _object({"name": TEXT}, "name")}, "type")),
            },
            ("model", "messages"),
            {"model": "Compressa-LLM", "messages": [{"role": "user", "content": QUESTION}], **sampling},
        ),
        "/v1/embeddings": _post(
            "Create embedding",
            "Embeddings",
            {
                "model": MODEL,
                "input": {"anyOf": [TEXT, _list(TEXT, minItems=1)]},
                "encoding_format": {"enum": ["float", "base64"]},
                "dimensions": {"type": "integer", "minimum": 1, "description": "keep so many of the first numbers"},
            },
            ("model", "input"),
            {"model": "Compressa-Embedding", "input": QUESTION},
        ),
        "/v1/rerank": _post(
            "Rank documents by their relevance to a query",
            "Ranking",
            {
                "model": MODEL,
                "query": TEXT,
                "documents": _list(TEXT, minItems=1),
                "top_n": {"type": "integer", "minimum": 1, "description": "answer with so many; all by default"},
                "return_documents": {"type": "boolean", "default": False},
            },
            ("model", "query", "documents"),
            {"model": "Compressa-Rerank", "query": QUESTION, "documents": ["The Dodgers won it.", "It rains."]},
        ),
        "/api/v1/models": {
            "get": _get(
                "OpenAI's list of what is served (without the last slash; with it, the list of all models)",
                "ServedModels",
            )
        },
        "/v1/models/{model_id}": {
            "get": {
                **_get("One model that is served; ids with a slash are written as they are", "ServedModel"),
                "parameters": [{"name": "model_id", "in": "path", "required": True, "schema": MODEL}],
            }
        },
    }


def _responses(schema: str, **more: Any) -> dict[str, Any]:
    error = {
        "description": "OpenAI's error object",
        "content": {"application/json": {"schema": _reference("OpenAIError")}},
    }
    content = {"application/json": {"schema": _reference(schema)}, **more}
    return {"200": {"description": "the answer", "content": content}, "4XX": error, "5XX": error}


def _get(summary: str, schema: str) -> dict[str, Any]:
    return {"tags": TAG, "summary": summary, "responses": _responses(schema)}


def _post(
    summary: str, schema: str, fields: dict[str, Any], required: tuple[str, ...], example: dict[str, Any]
) -> dict[str, Any]:
    content = {"application/json": {"schema": _object(fields, *required), "example": example}}
    events: dict[str, Any] = {"text/event-stream": {}} if "stream" in fields else {}
    return {
        "post": {
            "tags": TAG,
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": _responses(schema, **events),
        }
    }
