"""What `/metrics` says of the process is what the operating system says of it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from gateway import process
from gateway.process import Process


def measured() -> dict[str, float]:
    return {sample.name: sample.value for metric in Process().collect() for sample in metric.samples}


def test_what_is_measured() -> None:
    """Under the usual names, in the usual units."""
    before = measured()
    assert before.keys() == {
        "process_cpu_seconds_total", "process_max_fds", "process_resident_memory_bytes", "process_open_fds",
    }  # fmt: skip
    assert before["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < before["process_cpu_seconds_total"] <= measured()["process_cpu_seconds_total"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak / 10 < before["process_resident_memory_bytes"] <= peak * 1.1


@pytest.mark.parametrize("counted", [True, False], ids=["as Linux 6.2 counts them", "as older ones list them"])
def test_file_descriptors(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one that is opened is one more."""
    if not counted:
        size, real = os.stat_result([0] * 10), Path.stat
        monkeypatch.setattr(Path, "stat", lambda path, **options: size if path.name == "fd" else real(path, **options))
    before = measured()["process_open_fds"]
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
    try:
        assert measured()["process_open_fds"] == before + 50
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert measured()["process_open_fds"] == before


def test_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is there."""
    monkeypatch.setattr(process, "_PROC", tmp_path / "proc")
    assert measured().keys() == {"process_cpu_seconds_total", "process_max_fds"}
