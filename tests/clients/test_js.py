"""The JavaScript client: what is made from its source is committed as made, it is small, and it does what it says."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from pathlib import Path

import pytest

from gateway import __version__
from tests.clients.js_house import PACKAGE, house, needs_packages, node

SERVED = PACKAGE.parents[1] / "gateway" / "static" / "client.js"
#: Bytes of what the gateway serves as `/client.js`, compressed.
BUDGET = 4000


def test_it_is_small() -> None:
    """Pages load it before anything else."""
    assert len(gzip.compress(SERVED.read_bytes(), 9, mtime=0)) <= BUDGET


def test_the_types_of_events_are_those_of_the_schemas() -> None:
    """Made by the script, committed, and the same."""
    path = PACKAGE / "scripts" / "event_types.py"
    spec = importlib.util.spec_from_file_location("event_types", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (PACKAGE / "types" / "event.d.ts").read_text() == module.render()


def test_package() -> None:
    """Its version is the gateway's, what it exports is there, it needs nothing, and its lock file names no registry."""
    package = json.loads((PACKAGE / "package.json").read_text())
    assert package["version"] == __version__
    assert SERVED.read_text().startswith(f"/*! {package['name']} {__version__} */")
    assert "dependencies" not in package
    for export in package["exports"].values():
        for path in export.values() if isinstance(export, dict) else (export,):
            assert (PACKAGE / path).is_file()
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)


@needs_packages
async def test_what_is_made_is_as_made() -> None:
    """Declarations and the served file are what `npm run build` makes of the source; the types are strict."""
    code, output = await node("scripts/build.js", "--check")
    assert code == 0, output


@needs_packages
async def test_types() -> None:
    """What an application in TypeScript writes compiles against the committed declarations, and what is wrong does not."""
    code, output = await node("node_modules/typescript/bin/tsc", "-p", "test/types")
    assert code == 0, output


@needs_packages
@pytest.mark.parametrize(
    "file", sorted((PACKAGE / "test").glob("*.test.js")), ids=lambda file: file.name.partition(".")[0]
)
async def test_alone(file: Path) -> None:
    """Without a gateway: a model of it, a fake browser, real React."""
    code, output = await node("--test", "--test-reporter=tap", str(file))
    assert code == 0, output
    assert not re.search(r"^# pass 0$", output, re.MULTILINE), output


@needs_packages
@pytest.mark.parametrize("name", ["cuts", "slow", "restart", "reset", "tokens", "refusals", "tasks"])
async def test_with_a_gateway(name: str, tmp_path: Path) -> None:
    """Against a started one, which restarts, forgets, refuses, and is cut off."""
    async with house(tmp_path, seed=sum(name.encode())) as env:
        file = "test/gateway/gateway.test.js"
        code, output = await node("--test", "--test-reporter=tap", f"--test-name-pattern=^{name}$", file, **env)
    assert code == 0, output
    assert re.search(rf"^ok \d+ - {name}$", output, re.MULTILINE), output
