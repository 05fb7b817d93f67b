"""Two at once: each race in real processes over real HTTP, in an order that the test decides."""
