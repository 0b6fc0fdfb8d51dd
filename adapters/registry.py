"""Which adapters there are: the built-in ones, and those that installed distributions offer.

A third-party distribution offers an adapter with an entry point in the group `mainstem.adapters`. Its code is imported only
when a configuration names it, and it cannot take the name of a built-in adapter. Must not know what a configuration file is.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from adapters.api import Adapter, SourceConfig

GROUP: Final = "mainstem.adapters"

#: name → where it is. Imported late, so that a gateway pays only for the upstreams it has.
BUILT_IN: Mapping[str, str] = {
    "triverse": "adapters.triverse:Triverse",
    "emit": "adapters.emit:Emit",
    "catalyst": "adapters.catalyst:Catalyst",
}


class AdapterUnavailable(Exception):
    """There is no such adapter, or it cannot be used. The message says which, where it comes from, and why."""


def available() -> list[str]:
    """Names of all adapters, built-in ones first; imports none of them."""
    offered = {point.name for point in metadata.entry_points(group=GROUP)}
    return [*BUILT_IN, *sorted(offered.difference(BUILT_IN))]


def load(name: str) -> type[Adapter[Any]]:
    """The adapter class of a name.

    Raises:
        AdapterUnavailable: nothing has this name, several distributions claim it, it cannot be imported, or it is no adapter.
    """
    if name in BUILT_IN:
        return _import(name, BUILT_IN[name], "built in")
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        raise AdapterUnavailable(f"there is no adapter {name!r}; available: {', '.join(available())}")
    if len(points) > 1:
        origins = " and ".join(sorted(_origin(point) for point in points))
        raise AdapterUnavailable(f"adapter {name!r} is offered more than once: by {origins}; uninstall all but one")
    return _import(name, points[0].value, _origin(points[0]))


def _origin(point: metadata.EntryPoint) -> str:
    """`distribution version`, as pip prints it."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _import(name: str, target: str, origin: str) -> type[Adapter[Any]]:
    module, _, attribute = target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # foreign code may raise anything while it is imported
        raise AdapterUnavailable(
            f"adapter {name!r} ({origin}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise AdapterUnavailable(f"adapter {name!r} ({origin}): {target} is not a subclass of adapters.api.Adapter")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise AdapterUnavailable(f"adapter {name!r} ({origin}): {target} does not implement {lacking}")
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and issubclass(config, SourceConfig)):
        raise AdapterUnavailable(f"adapter {name!r} ({origin}): Config is not a subclass of adapters.api.SourceConfig")
    return found
