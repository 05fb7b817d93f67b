"""Backups of the database: made while everything runs, and checked before they are reported.

`contents` says what a backup has. `sqlite` and `postgres` make, check and load one of their kind, for `making` and
`restoring`. `holding` makes sure that nothing is sent after a restore.
"""

from runsadmin.services.backups.making import Backup, before_migrating, create, read
from runsadmin.services.backups.restoring import Restored, restore
