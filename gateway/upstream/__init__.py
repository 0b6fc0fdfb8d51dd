"""Connections to upstreams: what keeps them, repairs them, and says honestly what was missed."""
