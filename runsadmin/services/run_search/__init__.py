"""Finds runs by a search (`runsadmin.search`), with a bounded plan for each.

`sources` has the index ranges that a search can be read from. `finding` chooses one and reads pages.
`services/search_time_limit.py` stops searches that still take too long.
"""

from runsadmin.services.run_search.finding import RunSearch, Sort

__all__ = ["RunSearch", "Sort"]
