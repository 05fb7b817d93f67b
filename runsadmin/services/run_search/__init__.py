"""Finds the runs that match a search (`runsadmin.search`), from as few index entries as possible.

`sources` has the index ranges that a search can be read from, `choosing` chooses one, and `merging` reads several side
by side. `finding` combines them and reads pages. `services/search_time_limit.py` stops searches that take too long.
"""

from runsadmin.services.run_search.finding import RunSearch, Sort

__all__ = ["RunSearch", "Sort"]
