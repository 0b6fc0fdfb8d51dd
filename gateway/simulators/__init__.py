"""Three upstreams that follow their documents, for the demo, the tests and stand-alone use.

They share no code with the adapters: what one side misreads, the other must not misread in the same way.
"""
