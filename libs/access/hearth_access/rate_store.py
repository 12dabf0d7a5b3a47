"""What is left of the keys' limits, shared by all gateways: each settles what it spent and learns of the others."""

from dataclasses import dataclass
from importlib.resources import files

from redis import Redis

from hearth_access import redis_keys


@dataclass(frozen=True)
class Spent:
    """What one gateway has to say of one key."""

    key_id: str
    requests_per_minute: int  # 0: not limited
    requests: int  # spent since it last said so
    tokens_per_minute: int
    tokens: int
    at_work: int  # requests right now
    streams: int  # of them


@dataclass(frozen=True)
class Left:
    """What is left of one key's allowances, all gateways together; below 0 it is in debt."""

    requests: float
    tokens: float
    at_work_elsewhere: int
    streams_elsewhere: int


class RateStore:
    """Allowances in Redis, by Redis's clock."""

    def __init__(self, redis: Redis, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self._settle = redis.register_script((files("hearth_access") / "lua" / "rates.lua").read_text())

    def settle(self, spent: list[Spent]) -> list[Left]:
        """Bring in what was spent; says what is left, in the same order."""
        if not spent:
            return []
        arguments: list[str | int] = [self.gateway_id]
        for each in spent:
            arguments += [each.requests_per_minute, each.requests, each.tokens_per_minute, each.tokens]
            arguments += [each.at_work, each.streams]
        rows = self._settle(keys=[redis_keys.rate(each.key_id) for each in spent], args=arguments)
        return [Left(float(row[0]), float(row[1]), int(row[2]), int(row[3])) for row in rows]
