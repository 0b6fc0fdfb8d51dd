"""Mainstem: realtime task APIs in, one durable stream of CloudEvents and signed webhooks out."""

__version__ = "0.1.0"
