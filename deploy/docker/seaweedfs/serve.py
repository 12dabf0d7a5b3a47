"""Become `weed server` with the one pair of keys that the environment names, in a file that only this user reads."""

import json
import os
from pathlib import Path

IDENTITIES = Path("/tmp/s3.json")


def main() -> None:
    """Write the keys and hand over."""
    keys = {"accessKey": os.environ.pop("HEARTH_S3_ACCESS_KEY"), "secretKey": os.environ.pop("HEARTH_S3_SECRET_KEY")}
    identity = {"name": "hearth", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    IDENTITIES.touch(mode=0o600)
    IDENTITIES.write_text(json.dumps({"identities": [identity]}))
    os.environ["WEED_MASTER_VOLUME_GROWTH_COPY_1"] = "2"  # volumes that a bucket's first object takes; 7 by default
    # Its inner ports know no password: they stay on this container's loopback.
    os.execvp("weed", [
        "weed", "-logtostderr=true", "server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", "-s3.ip.bind=0.0.0.0", "-s3.port=9000", f"-s3.config={IDENTITIES}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.allowDeleteBucketNotEmpty=false",
        "-volume.max=0", "-master.volumeSizeLimitMB=128", "-master.telemetry=false",
        "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms", "-volume.preStopSeconds=0",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
