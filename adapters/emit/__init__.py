"""emit.run: one JSON event a frame; `init` is a state, every other type is an occurrence."""

from adapters.emit.adapter import Emit, EmitConfig

__all__ = ["Emit", "EmitConfig"]
