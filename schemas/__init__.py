"""What crosses a boundary of the gateway: the canonical event, filters, notices and commands of the stream, problem details.

Everything here is pure: no I/O, no clock. Other packages import from here; this package imports none of them.
"""
