"""Hearth on one machine without Docker: environments, supervisor, demo."""
