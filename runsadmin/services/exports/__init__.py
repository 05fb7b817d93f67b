"""Exports of runs as CSV, JSON Lines or Parquet: sent to a client as they are read, or written to files by workers."""

from runsadmin.services.exports.files import (
    cancel,
    claim_waiting,
    delete_all,
    delete_expired,
    open_file,
    request,
    visible_to,
    write,
)
from runsadmin.services.exports.formats import CONTENT_TYPES
from runsadmin.services.exports.requests import NewExport
from runsadmin.services.exports.sending import Sending, send
from runsadmin.services.exports.writing import Dump
