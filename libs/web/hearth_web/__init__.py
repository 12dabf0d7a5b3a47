"""What every FastAPI service shares: problem documents, slashes, health, request ids, the server."""
