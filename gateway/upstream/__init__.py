"""Connections to upstreams: supervisor, backoff, liveness, repair."""
