"""Backups of the database: made while everything runs, and checked before they are reported.

`contents` says what a backup has. `sqlite` and `postgres` make, check and load one of their kind, and `making` uses
them.
"""

from runsadmin.services.backups.making import Backup, before_migrating, create, read
