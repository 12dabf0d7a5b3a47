"""One training run: TRL and PEFT in a process of its own, which knows neither Redis nor S3."""
