"""Run the gateway: one process, or several that share its port."""

import gc
import logging
import os
import socket
import sys
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_telemetry import metrics
from hearth_telemetry.logs import configure_logging
from hearth_telemetry.traces import configure_tracing
from uvicorn.supervisors import Multiprocess

from hearth_gateway import exchange
from hearth_gateway.app import Gateway
from hearth_gateway.compiled import is_compiled
from hearth_gateway.config import GatewaySettings
from hearth_gateway.metrics_port import serve_metrics
from hearth_gateway.protocol import TokenProtocol

log = logging.getLogger(__name__)

ACCEPTS_A_TURN = 16

SILENT_SECONDS = 60
"""A process of several that gives no sign for so long is replaced. Uvicorn's own five seconds end processes that are
still importing on a busy machine, again and again."""


NEW_OBJECTS = 10_000
"""Between two looks for garbage, 700 by default: a request leaves none in cycles, and a thousand that begin at once are
looked through again and again."""

SWITCH_SECONDS = 0.0005
"""How long a thread that trades with Redis may keep the event loop waiting; ten times as long by default."""


def build() -> Gateway:
    """The app as each process makes it, from the settings."""
    gc.set_threshold(NEW_OBJECTS)
    sys.setswitchinterval(SWITCH_SECONDS)
    configure_logging("gateway")
    configure_tracing("gateway")
    log.info("the token path runs %s", "compiled" if is_compiled(exchange) else "as Python source")
    return Gateway(GatewaySettings(), connect(RedisSettings()))


def server_options(settings: GatewaySettings) -> dict[str, Any]:
    """What uvicorn has to know; the same for one process, for several and for tests."""
    return {
        "host": settings.gateway_host,
        "port": settings.gateway_port,
        "loop": "uvloop",
        "http": TokenProtocol,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),  # nobody else's X-Forwarded-* are believed
        "forwarded_allow_ips": list(settings.trusted_proxies),
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        "backlog": 4096,
        "timeout_keep_alive": int(settings.keep_alive_timeout),
        "timeout_graceful_shutdown": int(settings.drain_timeout),
        "timeout_worker_healthcheck": SILENT_SECONDS,
    }


def listen(settings: GatewaySettings) -> list[socket.socket]:
    """The listening socket, several times over.

    libuv accepts one connection a turn of its loop for each handle. With streams at work a turn takes milliseconds, and
    a thousand clients that arrive at once would wait for seconds.
    """
    config = uvicorn.Config("", **server_options(settings))
    first = config.bind_socket()
    return [first, *(first.dup() for _ in range(ACCEPTS_A_TURN - 1))]


def serve(settings: GatewaySettings) -> None:
    """Serve until told to stop; a process that dies is replaced."""
    options = server_options(settings)
    config = uvicorn.Config("hearth_gateway.server:build", factory=True, workers=settings.gateway_workers, **options)
    sockets = listen(settings)
    if settings.metrics_port is not None:
        serve_metrics(settings.gateway_host, settings.metrics_port)
    if settings.gateway_workers == 1:
        uvicorn.Server(config).run(sockets)
        return
    with TemporaryDirectory(prefix="hearth-metrics-") as folder:
        os.environ[metrics.FOLDER] = folder  # before the processes start, since they read it when they import
        Multiprocess(config, sockets).run()
