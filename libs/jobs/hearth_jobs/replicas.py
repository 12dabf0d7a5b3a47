"""Who holds which replica of a deployment: a claim under a lease, as on a job, so that no replica has two engines.

A replica is a number below the deployment's `replicas`. A node that holds one serves the deployment's versions one
after another. The rules are those of jobs, and so are the scripts: the attempt is the fencing token, and what a dead
node held is free once the judge has freed it (`free`).
"""

from dataclasses import dataclass
from importlib.resources import files

from hearth_contracts.base import now
from redis import Redis

from hearth_jobs import keys
from hearth_jobs.config import LEASE_SECONDS
from hearth_jobs.replies import fields_of, text
from hearth_jobs.store import StaleAttempt


@dataclass(frozen=True)
class HeldReplica:
    """One that was claimed at least once."""

    deployment: str
    index: int
    owner: str  # who holds it (see `owners`); '' when nobody does
    attempt: int
    lapsed: bool  # its lease has ended

    @property
    def name(self) -> str:
        """As the index of all replicas has it."""
        return f"{self.deployment}:{self.index}"


class ReplicaStore:
    """Replicas in Redis. Every method raises redis.RedisError when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        script = files("hearth_jobs") / "lua"
        self._claim = redis.register_script((script / "claim.lua").read_text())
        self._write = redis.register_script((script / "write.lua").read_text())
        self._expire = redis.register_script((script / "expire.lua").read_text())

    def claim(self, deployment: str, replicas: int, owner: str) -> HeldReplica | None:
        """Hold the first of so many that nobody holds; None when all are held."""
        for index in range(replicas):
            key = keys.replica(deployment, index)
            self.redis.hsetnx(key, "status", "RUNNING")  # it never ends: a replica is only held or free
            name = f"{deployment}:{index}"
            args: list[str | int] = [name, owner, int(LEASE_SECONDS * 1000), now().isoformat(), ""]
            outcome, token = self._claim(keys=[key, keys.REPLICAS], args=args)
            if text(outcome) == "claimed":
                return HeldReplica(deployment, index, owner, int(token), lapsed=False)
        return None

    def renew(self, replica: HeldReplica) -> None:
        """Hold on to it. Raises StaleAttempt when it was freed."""
        self._put(replica, str(int(LEASE_SECONDS * 1000)))

    def release(self, replica: HeldReplica) -> None:
        """Give it back, for another node to claim. Raises StaleAttempt when it was freed."""
        self._put(replica, "0")

    def free(self, replica: HeldReplica, *, proven: bool = False) -> bool:
        """Free what a dead node held: its lease has ended, or it is `proven` gone. False when it is held after all."""
        args: list[str | int] = [
            replica.name,
            replica.attempt,
            "",
            now().isoformat(),
            "free",
            replica.owner,
            "1" if proven else "",
        ]
        return self._expire(keys=self._keys(replica), args=args) is not None

    def held(self) -> list[HeldReplica]:
        """Those that somebody holds, of all deployments."""
        seconds, micros = self.redis.time()
        clock = seconds * 1000 + micros // 1000
        names = [text(name) for name in self.redis.zrangebyscore(keys.REPLICAS, 1, "+inf")]
        pipe = self.redis.pipeline(transaction=False)
        for name in names:
            deployment, _, index = name.rpartition(":")
            pipe.hgetall(keys.replica(deployment, int(index)))
        found = []
        for name, record in zip(names, map(fields_of, pipe.execute()), strict=True):
            deployment, _, index = name.rpartition(":")
            if owner := record.get("owner", ""):
                lapsed = int(record["lease_until_ms"]) <= clock
                found.append(HeldReplica(deployment, int(index), owner, int(record["attempt"]), lapsed))
        return found

    def _put(self, replica: HeldReplica, lease: str) -> None:
        args: list[str | int] = [replica.name, replica.attempt, lease, "", now().isoformat()]
        reply = self._write(keys=self._keys(replica), args=args)
        if text(reply[0]) == "stale":
            raise StaleAttempt(f"replica {replica.name} is at attempt {text(reply[2])}, not {replica.attempt} any more")

    @staticmethod
    def _keys(replica: HeldReplica) -> list[str]:
        return [keys.replica(replica.deployment, replica.index), keys.REPLICAS]
