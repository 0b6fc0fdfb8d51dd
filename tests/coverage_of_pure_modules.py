"""`python -m tests.coverage_of_pure_modules`: what decides, and does no I/O, has every branch tested. Reads `.coverage`."""

from __future__ import annotations

import io
import sys

from coverage import Coverage

from tests.test_architecture import FILES, PURE, ROOT, module_of, within


def main() -> int:
    """The exit code: 0 where every pure module is covered in full."""
    coverage = Coverage()
    coverage.load()
    poor = 0
    for path in FILES:
        if within(module_of(path), PURE):
            total = coverage.report(include=[str(path)], file=io.StringIO(), skip_empty=False)
            if total < 100:
                poor += 1
                print(f"{path.relative_to(ROOT)}: {total:.1f} %")
                coverage.report(include=[str(path)], show_missing=True)
    print(f"pure modules: {poor} of them not covered in full" if poor else "pure modules: every branch is covered")
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main())
