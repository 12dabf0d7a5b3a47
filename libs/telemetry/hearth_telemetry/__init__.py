"""Logs, the same in every process."""
