"""The command `hearth`: the platform from a terminal, over its public API."""
