"""An Assistants-compatible HTTP server for development and tests: `python -m sandbox`.

It takes the place of the upstream, speaks real HTTP and shares no code with runsadmin, so that tests against it are
tests against an independent server. It can be made to misbehave: see `control` and `faults`.
"""
