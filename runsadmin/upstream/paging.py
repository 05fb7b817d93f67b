"""What the pages of a thread's list prove: where the list ends, and whether all of it was read.

A list is read newest first. If its pages contradict each other, it is read again, oldest first. It counts as complete
when the second reading reaches the end and shows everything that the first one did, or when both readings overlap.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

from runsadmin import lenient_json
from runsadmin.upstream.records import Page

# Some servers filter each page after cutting it from the list, so that pages may be empty: continue after up to this
# many empty pages in a row.
MAX_EMPTY_PAGES = 3

REPEATED = "A page repeated runs of an earlier page."
SKIPPED = "A page left out runs that the page before it had shown."
LEFT_OUT = "The list leaves out runs that exist."
MORE_NOT_SHOWN = "The server seems to have more runs but shows none."


@dataclass
class ListReading:
    """What the pages that were read in one order have shown so far. Times are in seconds since 1970.

    The cursor is the last run that was not created in the same second as the very last one, so the next page has to
    repeat the runs after the cursor. This detects pages that skip runs. It also keeps runs created in the same second
    from being lost between two pages, on servers that reorder them each time or that treat `after` as a time.
    """

    oldest_first: bool = False
    cursor: str = ""  # The `after` parameter of the next request.
    cursor_time: float | None = None
    overlap: list[str] = field(default_factory=list)  # The runs that the next page has to repeat.
    limit: int = 0
    ids: dict[str, None] = field(default_factory=dict)
    pages: int = 0
    longest: int = 0  # The most items on a page so far.
    ended: bool = False
    doubt: str = ""  # Why these pages may not show everything.
    in_order: bool = True  # Whether the creation times are in the requested order.
    has_more_was_wrong: bool = False
    ignores_end: bool = False  # Whether `has_more: false` is ignored.
    said_end: bool = False  # Whether the last page had `has_more: false`.
    empty_pages: int = 0
    is_stuck: bool = False  # Whether a page of one run showed no new run.
    too_large: str = ""  # The message of the last page that was too large.
    first_page: list[str] = field(default_factory=list)
    first_edge: float | None = None  # The first page shows everything up to this time.
    edge: float | None = None  # All pages together show everything up to this time.
    last_time: float | None = None

    @property
    def first(self) -> str:
        return next(iter(self.ids), "")

    def take(self, page: Page, *, largest_page: int, has_more_is_wrong: bool = False) -> None:
        """Evaluates the page that follows the cursor, requested with `limit`.

        `largest_page` is the largest number of runs that a page of this connection has shown.
        """
        self.pages += 1
        shown = list(dict.fromkeys(page.ids))
        times = {
            record.upstream_id: record.created_at.timestamp()
            for record in page.records
            if record.created_at is not None
        }
        new = [run_id for run_id in shown if run_id not in self.ids]
        if new and self.said_end:
            self.has_more_was_wrong = True
        repeats = self._repeats(shown, times, makes_progress=bool(new) or page.size < self.longest)
        if repeats or self._has_skipped(shown, new, times):
            self._doubt(REPEATED if repeats else SKIPPED)
            self.edge = self.first_edge
        self._note_times([times[run_id] for run_id in new if run_id in times])
        self.ids |= dict.fromkeys(new)
        if self.pages == 1:
            self.first_page, self.first_edge = new, self.edge
        had_said_end, self.said_end = self.said_end, page.has_more is False
        self.empty_pages = 0 if page.size else self.empty_pages + 1
        if not page.size:
            self._take_empty(page, had_said_end)
        elif not new:
            self._take_nothing_new(page, repeats)
        else:
            self._move_on(shown, new, times)
            is_believed = not (has_more_is_wrong or self.has_more_was_wrong or self.ignores_end)
            if self.said_end and is_believed:
                # A full page is no proof, since on some servers `has_more` is always false. Neither is a page as large
                # as this server's largest, since the server may limit pages to fewer runs than requested.
                self.ended = page.size < self.limit and page.size < largest_page
        self.longest = max(self.longest, page.size)

    def _repeats(self, shown: Sequence[str], times: Mapping[str, float], *, makes_progress: bool) -> list[str]:
        """The runs on this page that were read before and should not be repeated.

        Runs created in the same second as the cursor do not count, since servers may reorder them each time.
        """
        expected = {self.cursor, *self.overlap}
        repeats = [run_id for run_id in shown if run_id in self.ids and run_id not in expected]
        if self.overlap and makes_progress:
            return [run_id for run_id in repeats if times.get(run_id) != self.cursor_time]
        return repeats

    def _has_skipped(self, shown: Sequence[str], new: Sequence[str], times: Mapping[str, float]) -> bool:
        """Whether the page skips runs that it should show. Runs created in the same second may be in any order."""
        if all(run_id in shown for run_id in self.overlap):
            return False
        return any(not self.in_order or times.get(run_id) != self.last_time for run_id in new)

    def _is_beyond(self, time: float | None, other: float | None) -> bool:
        if time is None or other is None:
            return False
        return time > other if self.oldest_first else time < other

    def _move_on(self, shown: Sequence[str], new: Sequence[str], times: Mapping[str, float]) -> None:
        left_out = [run_id for run_id in self.overlap if run_id not in shown]
        last = times.get(new[-1])
        earlier = (index for index in reversed(range(len(shown))) if self._is_beyond(last, times.get(shown[index])))
        index = next(earlier, None) if self.in_order else None
        if index is None or self.limit <= len(shown) - index:
            index = max(len(shown) - 2, 0)
        self.cursor, self.cursor_time = shown[index], times.get(shown[index])
        self.overlap = left_out + list(shown[index + 1 :])
        if self.limit <= len(self.overlap) + 1:
            self.continue_after_last()
        self.is_stuck = False

    def continue_after_last(self) -> bool:
        """Makes the last run the cursor, so that no overlap is expected. Returns False if it already is the cursor."""
        if not self.overlap:
            return False
        self.cursor, self.cursor_time, self.overlap = next(reversed(self.ids)), self.last_time, []
        return True

    def halve(self) -> None:
        """Requests half as many runs after a page that was too large."""
        self.limit //= 2
        if self.limit <= len(self.overlap) + 1:
            self.continue_after_last()

    def _take_nothing_new(self, page: Page, repeats: Sequence[str]) -> None:
        """If the page repeats only the expected runs, the list has ended. Otherwise nothing can be concluded."""
        is_short = page.size < self.longest
        if not repeats and not (is_short and not page.has_more) and self.continue_after_last():
            return
        if self.limit == 1 and not self.is_stuck and not repeats:
            # A page with one known run does not advance the cursor, so two runs are requested next.
            self.is_stuck = True
            return
        self.ended = True
        if not page.ids:
            self._doubt("No run on a page had an id.")
        elif self.is_stuck and self.too_large:
            self._doubt(self.too_large)
        elif page.has_more or not is_short:
            self._doubt(MORE_NOT_SHOWN)

    def _take_empty(self, page: Page, had_said_end: bool) -> None:
        """Some servers claim to have more even after the last page. If `last_id` is new, the claim may be true."""
        may_have_more = page.has_more and page.last_id and page.last_id != self.cursor and page.last_id not in self.ids
        if may_have_more and self.empty_pages <= MAX_EMPTY_PAGES:
            self.cursor = page.last_id
            return
        # If the server treats the cursor as a time, the other runs of that second may be missing.
        is_same_second = bool(self.overlap) and self.cursor_time == self.last_time
        if is_same_second and not had_said_end:
            self._doubt(SKIPPED)
        elif self.continue_after_last():
            return
        elif may_have_more:
            self._doubt(MORE_NOT_SHOWN)
        self.ended = True

    def skip(self, run_id: str) -> bool:
        """Continues after a run that cannot be read. Returns False if that is not possible."""
        if not run_id or run_id in self.ids:
            return False
        self.ids[run_id] = None
        self.cursor, self.cursor_time, self.overlap = run_id, None, []
        return True

    def stop(self, why: str) -> None:
        self._doubt(why)
        self.ended = True

    def _doubt(self, why: str) -> None:
        self.doubt = self.doubt or why

    def _note_times(self, times: Sequence[float]) -> None:
        for time in times:
            if self._is_beyond(self.last_time, time):
                self.in_order = False
            self.last_time = time
        if not self.doubt:
            self.edge = self.last_time if self.in_order else None


@dataclass
class ThreadReading:
    """The readings of one thread in one pass, which another process may continue.

    `from_the_start` is false if an earlier process crashed: the runs that it read are unknown.
    """

    began_at: dt.datetime
    newest: ListReading = field(default_factory=ListReading)
    oldest: ListReading | None = None
    from_the_start: bool = True
    reached_watermark: bool = False
    fetched: dict[str, None] = field(default_factory=dict)  # Runs that were fetched because no page showed them.
    not_confirmed: dict[str, None] = field(default_factory=dict)  # Runs that a page showed only in part.
    reported: list[str] = field(default_factory=list)  # The errors that have been recorded.

    @property
    def shown(self) -> dict[str, None]:
        """The runs of both readings."""
        return self.newest.ids | (self.oldest.ids if self.oldest else {})

    def has_shown(self, run_id: str) -> bool:
        return run_id in self.newest.ids or (self.oldest is not None and run_id in self.oldest.ids)

    def note_confirmed(self, ids: Sequence[str], confirmed: Iterable[str]) -> None:
        """Records which runs of a page are fully known, from the page itself or from a fetch."""
        self.not_confirmed |= dict.fromkeys(set(ids).difference(confirmed))

    @property
    def confirmed(self) -> frozenset[str]:
        """The runs that were fully read in this pass."""
        return frozenset(self.shown.keys() - self.not_confirmed.keys())

    def leaves_out(self, run_id: str) -> bool:
        """Whether the run has to be fetched, because the pages did not show it."""
        if run_id in self.fetched:
            return False
        if self.oldest is not None and self.oldest.ended and not self.oldest.doubt:
            return run_id not in self.oldest.ids
        return not self.has_shown(run_id)

    def read_on(self) -> bool:
        """Called when an existing run was not shown. Returns whether there are more pages to read."""
        if self.current.said_end and self.current.ended and not self.current.ignores_end:
            self.current.ignores_end, self.current.ended = True, False
            return True
        if self.oldest is None:
            self.newest.stop(LEFT_OUT)
            self.read_oldest_first()
            return True
        return False

    @property
    def current(self) -> ListReading:
        return self.oldest or self.newest

    @property
    def is_over(self) -> bool:
        return self.reached_watermark or self.current.ended

    @property
    def is_complete(self) -> bool:
        """Whether every run of the thread was shown, or every one since the watermark."""
        if self.reached_watermark or self.oldest is None:
            return not self.newest.doubt
        shows_all = self.newest.ids.keys() <= self.oldest.ids.keys()
        return (self.oldest.ended and not self.oldest.doubt and shows_all) or self._ends_meet

    @property
    def doubt(self) -> str:
        if self.oldest is None:
            return self.newest.doubt
        return self.oldest.doubt or "The runs shown oldest first differ from those shown newest first."

    @property
    def shows_everything(self) -> bool:
        """Whether every run of the thread was shown, so that a run that was not shown may be gone."""
        is_whole = self.oldest is not None or self.from_the_start
        return self.is_complete and is_whole and not self.reached_watermark

    @property
    def _ends_meet(self) -> bool:
        """Whether the readings from both ends overlap, so that no run between them is missing."""
        if self.oldest is None or not self.from_the_start:
            return False
        newest, oldest = self.newest.first_edge, self.oldest.edge
        if newest is not None and oldest is not None and oldest > newest:
            return True
        # All runs were created in the same second: both first pages show the same runs in opposite orders.
        return bool(self.newest.first_page) and self.newest.first_page == self.oldest.first_page[::-1]

    def read_oldest_first(self) -> None:
        self.oldest = ListReading(oldest_first=True)

    def dump(self) -> str:
        return lenient_json.dumps(asdict(self) | {"began_at": self.began_at.isoformat()})

    @classmethod
    def load(cls, text: str) -> Self:
        state = lenient_json.loads(text)
        oldest = state["oldest"] and ListReading(**state["oldest"])
        began_at, newest = dt.datetime.fromisoformat(state["began_at"]), ListReading(**state["newest"])
        return cls(**state | {"began_at": began_at, "newest": newest, "oldest": oldest})
