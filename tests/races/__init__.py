"""Races between real processes over HTTP, whose steps run in an order that the test controls."""
