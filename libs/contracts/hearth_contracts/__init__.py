"""Pydantic models that cross a service's border: requests, replies, records and errors."""
