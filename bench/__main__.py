"""`python -m bench [name ...]`: runs the benchmarks and prints their tables."""

from __future__ import annotations

import importlib
import platform
import sys

from bench.report import show

NAMES = ("normalize", "log", "relay", "fanout", "webhooks")


def main(names: list[str]) -> None:
    """Runs the named benchmarks, all by default."""
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print("Machines differ and drift: read the ratios, which come from the same rounds.\n")
    for name in names or NAMES:
        show(importlib.import_module(f"bench.{name}").rows())
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
