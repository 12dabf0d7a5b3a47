"""The token plane's routes as OpenAPI. What an engine takes beyond these fields is passed on to it untouched."""

from typing import Any

TAG = ["OpenAI-like API"]
ERROR = {
    "description": "OpenAI's error object",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "integer", "null"]},
                        },
                    }
                },
            }
        }
    },
}
MODEL = {"type": "string", "description": "Compressa-LLM, a base's id, an adapter's id, or Compressa-Embedding"}
SAMPLING = {
    "max_tokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0},
    "stream": {"type": "boolean", "default": False},
}
MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"role": {"type": "string"}, "content": {"type": "string"}},
        "required": ["role"],
    },
}


def openai_paths() -> dict[str, Any]:
    """The paths, under the public prefix."""
    question = "Who won the world series in 2020?"
    sampling = {"max_tokens": 128, "temperature": 0.5, "stream": False}
    return {
        "/api/v1/completions/": _post(
            "Create completion",
            {"model": MODEL, "prompt": {"type": "string"}, **SAMPLING},
            ["model", "prompt"],
            {"model": "Compressa-LLM", "prompt": question, **sampling},
        ),
        "/api/v1/chat/completions/": _post(
            "Create chat completion",
            {"model": MODEL, "messages": MESSAGES, **SAMPLING},
            ["model", "messages"],
            {"model": "Compressa-LLM", "messages": [{"role": "user", "content": question}], **sampling},
        ),
        "/api/v1/embeddings/": _post(
            "Create embedding",
            {"model": MODEL, "input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}},
            ["model", "input"],
            {"model": "Compressa-Embedding", "input": question},
        ),
        "/api/v1/models": {
            "get": {
                "tags": TAG,
                "summary": "OpenAI's list of what is served (without the last slash; with it, the list of all models)",
                "responses": {"200": {"description": "the list"}},
            }
        },
    }


def _post(summary: str, fields: dict[str, Any], required: list[str], example: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "required": required, "additionalProperties": True}
    return {
        "post": {
            "tags": TAG,
            "summary": summary,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema, "example": example}},
            },
            "responses": {
                "200": {
                    "description": "the engine's answer; with `stream`, server-sent events",
                    "content": {
                        "application/json": {"schema": {"type": "object"}},
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                },
                "4XX": ERROR,
                "5XX": ERROR,
            },
        }
    }
