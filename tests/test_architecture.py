"""The rooms of the house: who may import whom, and what stays pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for room in ("schemas", "adapters", "gateway") for path in (ROOT / room).rglob("*.py"))

#: room → prefixes that it must not import. Data flows one way: schemas ← adapters ← gateway.
FORBIDDEN = {
    "schemas": ("adapters", "gateway"),
    "adapters": ("gateway",),
    "adapters.triverse": ("adapters.emit", "adapters.catalyst", "gateway"),
    "adapters.emit": ("adapters.triverse", "adapters.catalyst", "gateway"),
    "adapters.catalyst": ("adapters.triverse", "adapters.emit", "gateway"),
    "gateway.store": ("adapters", "gateway.upstream", "gateway.pipeline", "gateway.stream", "gateway.webhooks", "gateway.http"),
    "gateway.pipeline": ("gateway.stream", "gateway.webhooks", "gateway.upstream", "gateway.http"),
    "gateway.upstream": ("gateway.stream", "gateway.webhooks", "gateway.http", "adapters.triverse", "adapters.emit", "adapters.catalyst"),
    "gateway.stream": ("gateway.pipeline", "gateway.upstream", "gateway.webhooks", "gateway.http", "adapters"),
    "gateway.webhooks": ("gateway.pipeline", "gateway.upstream", "gateway.stream", "gateway.http", "adapters"),
    "gateway.http": ("gateway.upstream", "gateway.store.sqlite", "gateway.app"),
    "gateway.simulators": ("adapters", "schemas", "gateway.pipeline", "gateway.upstream", "gateway.stream", "gateway.store"),
}  # fmt: skip

#: Sans-IO: time and chance come in as arguments, and nothing goes out but return values.
PURE = (
    "schemas", "adapters.api", "adapters.sse", "adapters.native", "adapters.triverse", "adapters.emit", "adapters.catalyst",
    "adapters.conformance", "gateway.pipeline.tasks", "gateway.pipeline.encode", "gateway.upstream.backoff",
    "gateway.upstream.liveness", "gateway.webhooks.signing", "gateway.webhooks.schedule", "gateway.webhooks.lanes",
    "gateway.webhooks.breaker", "gateway.webhooks.history", "gateway.webhooks.ledger", "gateway.webhooks.record",
    "gateway.stream.views", "gateway.stream.resume", "gateway.stream.deflate", "gateway.stream.lane", "gateway.simulators.population",
)  # fmt: skip
IMPURE = {"asyncio", "aiohttp", "time", "random", "logging", "sqlite3", "socket", "structlog", "threading"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported when the code runs, late imports included, those for type checkers alone left out."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_one_way(path: Path) -> None:
    """schemas ← adapters ← gateway; upstream and downstream meet in the log alone; no adapter knows another."""
    module = module_of(path)
    for room, prefixes in FORBIDDEN.items():
        if within(module, (room,)):
            wrong = sorted(name for name in imports(path) if within(name, prefixes))
            assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("path", [path for path in FILES if within(module_of(path), PURE)], ids=module_of)
def test_pure_modules_do_no_io(path: Path) -> None:
    """No clock, no chance, no socket, no log in what decides."""
    wrong = sorted(name for name in imports(path) if name.partition(".")[0] in IMPURE)
    assert not wrong, f"{module_of(path)} imports {wrong}"


@pytest.mark.parametrize("name", [*FORBIDDEN, *PURE])
def test_the_rules_are_about_modules_that_exist(name: str) -> None:
    """A renamed room must not lose its rule silently."""
    assert any(within(module_of(path), (name,)) for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    """The first thing in a module is what it owns."""
    assert ast.get_docstring(ast.parse(path.read_text()))
