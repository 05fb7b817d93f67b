"""The benchmark: compares runsadmin with its alternatives, all against the same fast upstream."""
