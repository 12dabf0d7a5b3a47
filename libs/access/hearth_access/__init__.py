"""Who may do what: API keys, what is left of their limits, what was used, who changed what. All of it in Redis."""
