"""Filters as arguments: values repeated or separated by commas, refused where nothing that there is can match them.

Owns that refusal for every command. Must not know what is filtered, nor ask a gateway: which sources there are, it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from schemas.filter import Filter


def values(field: str) -> Callable[[click.Context, click.Parameter, Sequence[str]], list[str]]:
    """What an option that may be repeated is read with, each value once.

    Args:
        field: of a filter, `schemas.filter.FIELDS`.
    """

    def read(ctx: click.Context, parameter: click.Parameter, given: Sequence[str]) -> list[str]:
        from schemas.filter import split

        words = list(dict.fromkeys(word for value in given for word in split(value)))
        if words and (wrong := _problems(field, words)):
            raise click.BadParameter("; ".join(wrong))
        return words

    return read


def _problems(field: str, words: list[str]) -> list[str]:
    from pydantic import ValidationError

    from gateway.validation import translate
    from schemas.filter import Filter

    try:
        where = Filter.model_validate({field: words})
    except ValidationError as error:
        found = translate(error.errors(include_url=False), {field: words}, Filter, lambda key, item: None)
        return list(found.values())
    return [text for _, text in doubts(where)]


def doubts(where: Filter) -> list[tuple[str, str]]:
    """What of a filter cannot match, whichever sources there are, each with its field."""
    from gateway.webhooks import doubts

    return list(doubts.of(where))
