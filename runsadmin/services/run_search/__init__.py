"""Finds runs by a search (`runsadmin.search`), with a bounded plan for each.

`sources` has the index ranges that a search can be read from. `finding` chooses one and reads pages. `time_limit` stops
searches that still take too long.
"""

from runsadmin.services.run_search.finding import RunSearch, Sort
from runsadmin.services.run_search.time_limit import limited

__all__ = ["RunSearch", "Sort", "limited"]
