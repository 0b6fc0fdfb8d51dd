"""What every benchmark answers with, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure. `values` are the rounds; the median is what to quote, the reference was measured in the same rounds."""

    name: str
    values: Sequence[float]
    unit: str
    hold: str = ""
    reference: str = ""
    reference_values: Sequence[float] = ()


def rounds(count: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each measure once a round, in turn, so that a drift of the machine meets all of them."""
    results: list[list[float]] = [[] for _ in measures]
    for _ in range(count):
        for result, measure in zip(results, measures, strict=True):
            result.append(measure())
    return results


def show(rows: Iterable[Row]) -> None:
    """Prints a table."""
    lines = [("figure", "median [min-max]", "unit", "hold", "reference", "median", "ratio")]
    for row in rows:
        middle = statistics.median(row.values)
        spread = f"{_number(middle)} [{_number(min(row.values))}-{_number(max(row.values))}]"
        if row.reference_values:
            other = statistics.median(row.reference_values)
            lines.append(
                (row.name, spread, row.unit, row.hold, row.reference, _number(other), f"{middle / other:.2f}x")
            )
        else:
            lines.append((row.name, spread, row.unit, row.hold, row.reference, "", ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for index, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if index == 0:
            print("  ".join("-" * width for width in widths))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
