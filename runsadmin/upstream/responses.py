"""The return values of calls."""

from dataclasses import dataclass

from runsadmin.upstream.records import RunRecord

PAGE_SIZE = 100


@dataclass(frozen=True)
class Response[T]:
    """A value, the server's own id of the request (`x-request-id`), and when the request was sent."""

    value: T
    http_status: int
    request_id: str
    sent: float  # In time.monotonic().

    def of[S](self, part: S) -> "Response[S]":
        """The same response, reduced to one part of its value."""
        return Response(part, self.http_status, self.request_id, self.sent)


@dataclass(frozen=True)
class Page:
    """One page of a thread's runs, as far as it is readable.

    `ids` has the ids of all items, including those that are not Runs; `unreadable` has a message for each of these.
    `size` is the number of items. `has_more` and `last_id` are the server's; None and "" if absent.
    """

    records: tuple[RunRecord, ...]
    ids: tuple[str, ...]
    unreadable: tuple[str, ...]
    size: int
    has_more: bool | None = None
    last_id: str = ""

    def before(self, run_id: str) -> "Page":
        """The part before this run, as a page with more to follow."""
        ids = self.ids[: self.ids.index(run_id)]
        records = tuple(record for record in self.records if record.upstream_id in ids)
        return Page(records, ids, self.unreadable, len(ids), has_more=True)
