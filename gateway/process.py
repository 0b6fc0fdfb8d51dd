"""Process: what the operating system says of this process, under the names that Prometheus' own clients give it.

The library's collector lists every file descriptor at each scrape, and the event loop stands still meanwhile: 10 ms for 10,000
connections. Must not know what the process does.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_PROC = Path("/proc/self")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(Collector):
    """The metrics, read anew at each scrape. What only Linux tells is left out elsewhere."""

    def collect(self) -> Iterator[Metric]:
        """Each metric with its value now."""
        yield CounterMetricFamily("process_cpu_seconds", "Processor time, user and system", time.process_time())
        limit = float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        yield GaugeMetricFamily("process_max_fds", "File descriptors that may be open", limit)
        if _PROC.is_dir():
            resident = int((_PROC / "statm").read_text().split()[1]) * _PAGE
            yield GaugeMetricFamily("process_resident_memory_bytes", "Memory that is not swapped out", resident)
            yield GaugeMetricFamily("process_open_fds", "Open file descriptors", _open())


def _open() -> int:
    """Since Linux 6.2 the directory's size is their number; before, it is 0."""
    directory = _PROC / "fd"
    return directory.stat().st_size or len(os.listdir(directory))
