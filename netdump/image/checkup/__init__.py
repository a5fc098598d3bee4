"""Whether this machine would deliver its dump if it panicked now: one module per precondition, all of them read-only.

`examination` runs them in order; every check yields findings and raises nothing that a user could meet.
"""
