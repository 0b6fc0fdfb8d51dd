"""`python -m gateway.documents`: writes every document that is made from the code and committed beside it.

Owns which documents there are and where they lie. They are committed so that a change of the interface is seen in its diff,
and so that tools need no running gateway; the tests fail where one is not what the code would make now.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway import reference
from gateway.http import openapi
from schemas import asyncapi, export

ROOT = Path(__file__).parent.parent


def made() -> dict[str, str]:
    """Path below the root of the project → text."""
    objects: dict[str, Mapping[str, Any]] = {
        "openapi": openapi.document(),
        "asyncapi": asyncapi.document(),
        "mainstem.schema": reference.schema(),
        **export.documents(),
    }
    texts = {
        f"schemas/documents/{name}.json": json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        for name, value in objects.items()
    }
    return {**texts, "docs/configuration.md": reference.page()}


def main(root: Path = ROOT) -> int:
    """Writes them, and removes a document that is no more. The exit code."""
    texts = made()
    for path in (root / "schemas" / "documents").glob("*.json"):
        if path.relative_to(root).as_posix() not in texts:
            path.unlink()
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
