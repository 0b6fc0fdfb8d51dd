"""Triverse: SSE text inside WebSocket text frames, each one a task's state."""

from adapters.triverse.adapter import Triverse, TriverseConfig

__all__ = ["Triverse", "TriverseConfig"]
