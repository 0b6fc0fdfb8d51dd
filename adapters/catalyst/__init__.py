"""Catalyst: JSON lists of occurrences about every five seconds, errors as objects before a normal close."""

from adapters.catalyst.adapter import Catalyst, CatalystConfig

__all__ = ["Catalyst", "CatalystConfig"]
