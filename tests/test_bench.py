"""`make bench` works: every benchmark that it names gives rows that can be printed. Figures are no test's business."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from bench import log, normalize, report
from bench.__main__ import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_benchmark(name: str) -> None:
    """Found, and with rows."""
    assert callable(importlib.import_module(f"bench.{name}").rows)


def test_small_runs_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The two that need no other process, in small; one once gave rows of a kind of its own, which ended the whole run."""
    monkeypatch.setattr(log, "SHAPES", {10: (100, 2)})
    monkeypatch.setattr(log, "ROUNDS", 1)
    monkeypatch.setattr(normalize, "_ROUNDS", 1)
    report.show([*log.rows(), *normalize.rows()])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("figure")
    assert len(lines) == 2 + 4 + 3
    assert lines[-1].startswith("normalize, Catalyst item")


def test_a_figure_stands_beside_its_reference(capsys: pytest.CaptureFixture[Any]) -> None:
    """Median and spread, the reference's median, and the ratio of the two."""
    report.show([report.Row("a", [1, 3, 2], "ms", "≤ 5", "b", [4, 4, 1])])
    assert capsys.readouterr().out.splitlines()[-1].split("  ")[0] == "a"
    report.show([report.Row("a", [1, 3, 2], "ms", "≤ 5", "b", [4, 4, 1])])
    assert "2.00 [1.00-3.00]" in (text := capsys.readouterr().out)
    assert "0.50x" in text
