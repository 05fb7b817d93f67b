"""The benchmark: runsadmin and its alternatives, against the same fast upstream."""
