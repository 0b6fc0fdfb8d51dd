"""`python -m bench [name ...]`: runs the benchmarks and prints their tables."""

from __future__ import annotations

import argparse
import importlib
import platform

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
    parser = argparse.ArgumentParser(prog="python -m bench", description="Runs the benchmarks and prints their tables.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(NAMES)}; default: all of them")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}")
    main(arguments.names)
