"""supervisord: its configuration, and talking to it over its unix socket."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from hearth_local.config import CannotStart, Config, process_environment, write_private
from hearth_local.programs import Context, Program

LOG_BYTES = 20 * 2**20
HANG_SECONDS = 60
"""A service that shows no sign of life for so long hangs: it is ended, and started again."""


def socket_path(config: Config) -> str:
    """Where supervisord listens."""
    return str(config.run / "supervisor.sock")


@contextmanager
def rpc(config: Config) -> Iterator[Any]:
    """supervisord's XML-RPC interface, namespace `supervisor`. Raises OSError at use when nobody listens."""
    transport = SupervisorTransport(serverurl=f"unix://{socket_path(config)}")
    try:
        yield ServerProxy("http://127.0.0.1", transport=transport).supervisor
    finally:
        transport.close()


def pid_path(config: Config) -> Path:
    """Where supervisord writes its process id."""
    return config.run / "supervisor.pid"


def _below(config: Config, path: Path | str) -> str:
    return str(Path(path).relative_to(config.home))


def _escaped(text: object) -> str:
    return str(text).replace("%", "%%")


def configuration(context: Context, programs: Sequence[Program]) -> str:
    """supervisord.conf. Nothing starts by itself: `up` starts one after the other and waits for each.

    Every command runs under the guard, so that killing supervisord, too, ends everything.
    """
    config = context.config
    # Paths are relative to its folder, the home: supervisord would take a % in them for a format, twice in some.
    text = (
        f"[unix_http_server]\nfile={_below(config, socket_path(config))}\nchmod=0600\n\n"
        f"[supervisord]\nlogfile={_below(config, config.log_of('supervisor'))}\n"
        f"pidfile={_below(config, pid_path(config))}\nnodaemon=false\nloglevel=info\n"
        f"{'user=root' if os.geteuid() == 0 else ''}\n\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    )
    for program in programs:
        # With the pid file, or a guard that starts while supervisord is killed would take process 1 for its parent.
        options = [f"--grace={program.stop_seconds}", f"--parent={pid_path(config)}"]
        options += [f"--pulse={HANG_SECONDS}"] if program.beats else []
        command = [sys.executable, "-m", "hearth_jobs.guard", *options, "--", *program.command(context)]
        env = ",".join(f'{name}="{_escaped(value)}"' for name, value in program.env.items())
        text += (
            f"\n[program:{program.name}]\ncommand={_escaped(shlex.join(command))}\n"
            f"autostart=false\nautorestart=true\nstartsecs=1\nstartretries=30\n"
            f"stopwaitsecs={program.stop_seconds + 10}\nkillasgroup=true\n"
            f"stdout_logfile={_below(config, config.log_of(program.name))}\nredirect_stderr=true\n"
            f"stdout_logfile_maxbytes={LOG_BYTES}\nstdout_logfile_backups=2\n"
        ) + (f"environment={env}\n" if env else "")
    return text


def spawn(context: Context, programs: Sequence[Program]) -> None:
    """Start supervisord; it goes into the background and outlives this process. Raises CannotStart."""
    config = context.config
    path = write_private(config.run / "supervisord.conf", configuration(context, programs))
    environment = process_environment(config, context.secrets)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)]
    done = subprocess.run(
        command,
        env=environment,
        cwd=config.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CannotStart(f"supervisord does not start: {(done.stderr or done.stdout).strip()}")
