"""An Assistants-compatible HTTP server for development and tests: `python -m sandbox`.

It stands in for an upstream, speaks real HTTP, and shares no code with runsadmin. It can be made to misbehave: see
`control` and `faults`.
"""
