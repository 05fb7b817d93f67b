"""Finds runs by a search. `runsadmin.search` implements the search language."""

from runsadmin import search
from runsadmin.models import Run
from runsadmin.models.run import RunQuerySet


def matching(query: str) -> RunQuerySet:
    """All runs that match the query; an empty query matches every run. Raises InvalidSearch."""
    runs = Run.objects.all()
    for condition in search.conditions(query):
        # One filter per condition: each metadata pair needs its own join.
        runs = runs.filter(condition)
    return runs
