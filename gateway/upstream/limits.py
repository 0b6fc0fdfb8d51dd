"""Every bound of the upstream room that is not a setting: how long, how large, how many. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes.

    Attributes:
        connect: a handshake, from DNS to the 101.
        close: how long a peer may take to answer a close frame.
        stop: how long a source may take to close everything.
        frame: size of one WebSocket message.
        handshakes: handshakes of single-task watches and probes that a source has under way at once.
        grace: how long a connection must have lasted before anybody is told that all is well or that something was missed.
        checkpoint: how often the time up to which a stream is known to be connected is stored.
        request: one REST request, body included.
        body: size of a REST answer.
        tries: attempts at a REST request that fails with 429, 5xx or no answer.
        pause: longest wait between two such attempts.
        lookups: REST lookups, and likewise probes, of one repair at once.
        probe: how long a probe may take to show its task.
        pages: pages of a listing.
        tasks: tasks that one repair tries to verify; those beyond stay unverified.
        hopeless: failures in a row after which a repair gives up a means.
        named: tasks that a `source.gap` names.
        watches: single-task watches of a source that are not over, and likewise those over that are still listed.
        complaints: how often a source logs a rejected frame; those between are counted.
    """

    connect: float = 10.0
    close: float = 2.0
    stop: float = 8.0
    frame: int = 16 * 1024 * 1024
    handshakes: int = 10
    grace: float = 0.5
    checkpoint: float = 60.0
    request: float = 10.0
    body: int = 4 * 1024 * 1024
    tries: int = 3
    pause: float = 10.0
    lookups: int = 4
    probe: float = 10.0
    pages: int = 50
    tasks: int = 10_000
    hopeless: int = 8
    named: int = 100
    watches: int = 1000
    complaints: float = 10.0
