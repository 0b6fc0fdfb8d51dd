"""What is wrong with a configuration, in the words of somebody who edits it.

Owns how a model reports several problems at once, and how pydantic's errors become key paths and plain sentences. Must not
know which sections there are.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from gateway.document import Key

#: Chooses the model of one item of a list, where that depends on the item.
Chooser = Callable[[Key, Any], type[BaseModel] | None]

_WORDS = {
    "missing": "is required",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}


def reject(model: str, wrong: Iterable[tuple[Key, str]]) -> None:
    """Reports problems found in the fields of a model, each below its own key; does nothing where there are none.

    Raises:
        ValidationError: there is at least one. Inside of a validator, pydantic merges it with all other errors.
    """
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("rule", "{text}", {"text": text}), "loc": key, "input": None}
        for key, text in wrong
    ]
    if details:
        raise ValidationError.from_exception_data(model, details, hide_input=True)


def suggest(word: str, known: Sequence[str]) -> str:
    """What may have been meant, to be put behind a message."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def not_text(value: object) -> str:
    """What is said of a value that should be text."""
    return "must be text; put it in quotes" if isinstance(value, (int, float)) else "must be text"


def translate(
    errors: Iterable[ErrorDetails], data: Mapping[str, Any], model: type[BaseModel], choose: Chooser
) -> dict[Key, str]:
    """pydantic's errors as key path → words. The branches of a union become one problem."""
    texts: dict[Key, list[str]] = {}
    unions: set[Key] = set()
    for error in errors:
        if error["type"] == "default_factory_not_called":
            continue  # a default that depends on a field which has its own problem
        key = _key(error["loc"], data)
        if len(key) < len(error["loc"]):
            unions.add(key)
        if error["type"] == "extra_forbidden":
            text = "unknown key" + suggest(str(key[-1]), _fields(key[:-1], data, model, choose))
        else:
            text = _wording(error)
        known = texts.setdefault(key, [])
        if text not in known:
            known.append(text)
    inner = {key[:length] for key in texts for length in range(len(key))}
    return {key: " or ".join(words) for key, words in texts.items() if not (key in unions and key in inner)}


def _key(loc: Sequence[str | int], data: Any) -> Key:
    """A location without what pydantic adds to it: names of union branches and of validators."""
    key: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(data, Mapping) and isinstance(part, str):
            if part in data or index == len(loc) - 1:
                key.append(part)
                data = data.get(part)
        elif isinstance(data, (list, tuple)) and isinstance(part, int):
            key.append(part)
            data = data[part]
    return tuple(key)


def _wording(error: ErrorDetails) -> str:
    kind, text = error["type"], error["msg"]
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "string_type":
        return not_text(error["input"])
    if kind in ("string_too_short", "too_short") and error["ctx"]["min_length"] == 1:
        return "must not be empty"
    if kind == "too_long" and "max_length" in error["ctx"]:
        return f"must have at most {error['ctx']['max_length']} items"
    text = text.removeprefix("Value error, ").partition(", unable to")[0]
    return text.replace("Input should", "must").replace("should have", "must have")


def _fields(key: Key, data: Any, model: type[BaseModel] | None, choose: Chooser) -> list[str]:
    """The keys that are known at a place of the file."""
    for index, part in enumerate(key):
        data = data[part]
        if model is None:
            break
        if isinstance(part, str):
            field = model.model_fields.get(part)
            model = _model_in(field.annotation) if field else None
        else:
            model = choose(key[: index + 1], data) or model
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in typing.get_args(annotation) if (model := _model_in(part))), None)
