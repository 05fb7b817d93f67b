"""An Assistants-compatible HTTP server for development and tests.

It stands where the upstream stands, speaks real HTTP and shares no code with the rest of runsadmin, so that what is
tested against it is tested against a stranger. It can be told to misbehave: see `control` and `faults`.

Start it with `manage.py sandbox` or `python -m runsadmin.sandbox`.
"""
