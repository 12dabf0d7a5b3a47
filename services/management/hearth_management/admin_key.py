"""`python -m hearth_management.admin_key NAME`: make an admin's API key, straight in Redis, and print its secret.

For containers: the gateway there starts only once there is a key, so the first cannot be made through it; nor can one
when the last admin's secret is lost.
"""

import sys

from hearth_access.key_store import KeyStore
from hearth_contracts.access import KeyRequest, Role
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from pydantic import ValidationError
from redis.exceptions import RedisError


def main(words: list[str]) -> None:
    """Make one. Raises SystemExit with the reason when it cannot be made."""
    if len(words) != 1:
        raise SystemExit("usage: python -m hearth_management.admin_key NAME")
    try:
        key = KeyStore(connect(RedisSettings())).create(KeyRequest(name=words[0], role=Role.ADMIN))
    except ValidationError as error:
        raise SystemExit(f"NAME: {error.errors()[0]['msg']}") from error
    except RedisError as error:
        raise SystemExit(f"no key was made, for Redis does not answer: {error}") from error
    sys.stdout.write(f"{key.secret}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
