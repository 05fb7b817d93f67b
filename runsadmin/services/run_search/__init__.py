"""Finds runs by a search (`runsadmin.search`), with a bounded plan for each.

`sources` has the index ranges that a search can be read from. `finding` chooses one and reads pages. `time_limit` ends
searches that take too long all the same.
"""

from runsadmin.services.run_search.finding import RunSearch

__all__ = ["RunSearch"]
