"""The doctor on real stores, healthy and broken: what it finds, and what it says mends it."""

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hearth_jobs.guard import descendants
from hearth_local import supervisor
from hearth_local.config import CannotStart, Config, Ports
from hearth_local.doctor import examine
from hearth_local.findings import Finding, Verdict
from hearth_local.platform import Platform
from hearth_local.programs import PROGRAMS, Program

VALKEY, S3 = PROGRAMS[:2]


@pytest.fixture
def programs() -> list[Program]:
    """Valkey alone, which is up in no time."""
    return [VALKEY]


@pytest.fixture
def platform(programs: list[Program], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Not started."""
    platform = Platform(Config(tmp_path_factory.mktemp("d"), Ports.free()), programs)
    try:
        yield platform
    finally:
        platform.stop()


def by_check(platform: Platform) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(platform)}


def faults(platform: Platform) -> dict[str, Finding]:
    return {name: finding for name, finding in by_check(platform).items() if finding.verdict is Verdict.FAULT}


@pytest.mark.parametrize("programs", [[VALKEY, S3]])
def test_a_healthy_platform_has_no_fault_and_everything_is_looked_at(platform: Platform) -> None:
    platform.start()
    found = by_check(platform)
    assert [finding for finding in found.values() if finding.verdict is Verdict.FAULT] == []
    assert {
        "python",
        "disk",
        "memory",
        "gpu",
        "secrets",
        "platform",
        "redis",
        "clock",
        "s3",
        "program s3",
    } <= found.keys()
    assert all(finding.found for finding in found.values())


def test_one_that_is_down_is_told_to_start_and_would(platform: Platform) -> None:
    found = by_check(platform)
    assert (found["platform"].verdict, "hearth up" in found["platform"].remedy) == (Verdict.WARNING, True)
    assert found["ports"].verdict is Verdict.OK
    assert faults(platform) == {}


def test_a_port_that_somebody_has_is_named_with_the_process_and_another_port(platform: Platform) -> None:
    port = platform.config.ports["redis"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        found = faults(platform)["ports"]
    assert f"port {port} (redis) is taken by process {os.getpid()}" in found.found
    assert "HEARTH_REDIS_PORT=" in found.remedy


def test_a_store_that_died_is_a_fault_of_it_and_of_its_program(platform: Platform) -> None:
    platform.start()
    with supervisor.rpc(platform.config) as rpc:
        rpc.stopProcess("valkey")
    found = faults(platform)
    assert found.keys() == {"redis", "program valkey"}
    assert "does not answer on port" in found["redis"].found
    assert "hearth logs valkey" in found["redis"].remedy
    assert found["program valkey"].found.startswith("STOPPED")


def test_a_store_that_hangs_is_a_fault(platform: Platform) -> None:
    platform.start()
    (pid,) = (program.pid for program in platform.status() if program.name == "valkey")
    assert pid is not None
    family = {pid, *descendants(pid)}
    for each in family:
        os.kill(each, signal.SIGSTOP)
    try:
        assert faults(platform).keys() == {"redis", "program valkey"}
    finally:
        for each in family:
            os.kill(each, signal.SIGCONT)


@pytest.mark.parametrize("programs", [[VALKEY, S3]])
def test_passwords_that_are_not_the_stores_and_may_be_read_by_all(platform: Platform) -> None:
    platform.start()
    path = platform.config.run / "secrets.env"
    kept = path.read_text()
    path.write_text("".join(f"{line.partition('=')[0]}=changed\n" for line in kept.splitlines()))
    path.chmod(0o644)
    found = faults(platform)
    assert found.keys() == {"secrets", "redis", "s3", "program valkey", "program s3"}
    assert found["secrets"].remedy == f"chmod 600 {path}"
    assert "password" in found["redis"].found
    assert "hearth down" in found["s3"].remedy
    path.write_text(kept)


def test_no_room_and_no_environment(platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hearth_local.doctor.machine.NEEDED_GIB", 10**6)
    monkeypatch.setenv("HEARTH_ENVS", str(tmp_path))
    found = faults(replace(platform, programs=PROGRAMS))
    assert {"disk", "environment vllm", "environment training", "environment infinity"} <= found.keys()
    assert found["environment vllm"].remedy == "run `make setup`"


def test_vllm_for_the_cpu_without_libnuma_is_a_fault_and_nothing_is_started(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_vllm = replace(platform, programs=[program for program in PROGRAMS if "vllm" in program.needs])
    assert "environment vllm" not in faults(needs_vllm)
    for module in ("checks", "doctor.machine"):
        monkeypatch.setattr(f"hearth_local.{module}.NUMA", "libhearth-none.so.1")  # nobody has it
    found = faults(needs_vllm)["environment vllm"]
    assert ("libhearth-none.so.1" in found.found, "libnuma1" in found.remedy) == (True, True)
    with pytest.raises(CannotStart, match="apt install libnuma1"):
        needs_vllm.start()


def test_an_environment_that_is_whole_is_told_with_its_engines(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEARTH_ENVS", str(tmp_path))
    packages = tmp_path / "infinity" / "lib" / "python3.11" / "site-packages"
    for name, version in {"infinity_emb": "0.0.78", "torch": "2.13.0+cpu"}.items():
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python = tmp_path / "infinity" / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    found = by_check(replace(platform, programs=PROGRAMS))
    assert found["environment infinity"].found == "torch 2.13.0+cpu, infinity-emb 0.0.78"
    (packages / "infinity_emb-0.0.78.dist-info" / "METADATA").unlink()
    (packages / "infinity_emb-0.0.78.dist-info").rmdir()
    broken = by_check(replace(platform, programs=PROGRAMS))["environment infinity"]
    assert (broken.verdict, "infinity-emb is not in it" in broken.found) == (Verdict.FAULT, True)


def test_memory_that_others_have_taken_is_a_warning(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearth_local.doctor.machine.PEAK_MEMORY_GIB", 10**6)
    assert by_check(platform)["memory"].verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        (None, Verdict.OK, "CPU"),
        ("echo 'NVIDIA-SMI has failed: driver/library version mismatch'; exit 9", Verdict.FAULT, "mismatch"),
        ("echo 'GPU, 1, 1 MiB'", Verdict.FAULT, "no GPU can be reached"),
    ],
)
def test_a_gpu_whose_driver_fails(
    platform: Platform,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    verdict: Verdict,
    words: str,
) -> None:
    """A stand-in for nvidia-smi: no driver can be broken on purpose."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("hearth_local.doctor.machine.gpu_rooms", list)
    if script is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    found = by_check(platform)["gpu"]
    assert (found.verdict, words in found.found) == (verdict, True)


def test_a_check_that_breaks_does_not_hide_the_others(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_path: Path) -> None:
        raise RuntimeError("no disks today")

    monkeypatch.setattr("hearth_local.doctor.machine.disk_room", broken)
    found = by_check(platform)
    assert "no disks today" in found["disk"].found
    assert found["ports"].verdict is Verdict.OK
