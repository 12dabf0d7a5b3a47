"""A run whose processes are a Ray cluster's: the driver beside the worker, and what it starts on Ray's nodes."""
