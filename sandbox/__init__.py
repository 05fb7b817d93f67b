"""An Assistants-compatible HTTP server for development and tests: `python -m sandbox`.

It replaces the upstream, speaks real HTTP and shares no code with runsadmin, so tests against it are tests against an
independent server. It can be made to misbehave: see `control` and `faults`.
"""
