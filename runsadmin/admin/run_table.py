"""The columns of the list of runs, as HTML. Nothing here queries the database: the list has read what they show."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from runsadmin.admin.list_state import ListAddress
from runsadmin.models import Run
from runsadmin.search.fields import METADATA
from runsadmin.services import run_columns
from runsadmin.services.run_columns import Column, Kind
from runsadmin.templatetags import display, links

# Columns that show a value as it is written in a search, so that it can be a link to that search.
_SEARCHED = ("connection", "thread", "assistant", "error")
_SORTED = {"created": "created_at", "duration": "duration", "tokens": "total_tokens"}
_LONGEST = 60


class TableColumn:
    """A column as Django's change list expects it: a callable with a name and a description."""

    def __init__(self, name: str, column: Column, show: Callable[[Run], Any]) -> None:
        # The name becomes a CSS class, so it must not be the key of a pair.
        self.__name__ = name
        self.short_description: str = column.label
        if column.key is not None:  # Otherwise it would be capitalized.
            self.short_description = format_html('<bdi class="ra-key">{}</bdi>', display.text(column.key))
        if column.name in _SORTED:
            self.admin_order_field = _SORTED[column.name]
        self._show = show

    def opens(self, shown: ListAddress) -> None:
        """Puts a link to the run before the value, for a list without the column of the run itself."""
        show = self._show
        self._show = lambda run: format_html(
            '<a class="ra-open" href="{}/change/{}" title="{}">Open</a> {}', run.pk, shown.link_suffix, run, show(run)
        )

    def __call__(self, run: Run) -> Any:
        return self._show(run)


def columns(shown: ListAddress) -> list[TableColumn]:
    tz = shown.tz_or_utc
    special: dict[str, tuple[str, Callable[[Run], Any]]] = {
        "id": ("run", lambda run: _run(run, shown.link_suffix)),
        "status": ("status", display.status),
        "created": (
            "created",
            lambda run: display.short_moment(run.created_at, tz) if run.created_at_is_known else display.UNKNOWN,
        ),
        "duration": ("duration", lambda run: display.duration(run.duration)),
        "model": ("model", display.model),
        METADATA: ("metadata", _metadata),
    }
    found = []
    for column in shown.columns:
        name, show = special.get(column.name, ("", None))
        found.append(TableColumn(name or _name(column), column, show or _shower(column, tz)))
    if all(column.name != "id" for column in shown.columns):
        found[0].opens(shown)
    return found


def needs_pairs(shown: ListAddress) -> bool:
    return any(column.kind is Kind.METADATA or column.key is not None for column in shown.columns)


def _name(column: Column) -> str:
    return "value" if column.key is not None else column.name


def _run(run: Run, suffix: str) -> SafeString:
    missing = SafeString('<span class="ra-badge ra-warn">Missing</span>') if run.missing_since else ""
    return format_html(  # Relative links: reversing URLs in each row took 8% of the page's time.
        '<a class="ra-id" href="{}/change/{}">{}</a> {}{}'
        '<a data-term class="ra-id ra-under" href="{}" title="All runs of {thread}">{thread}</a>',
        run.pk, suffix, run, display.connection(run), missing, links.value_url("thread", str(run.thread)),
        thread=run.thread,
    )  # fmt: skip


def _metadata(run: Run) -> SafeString:
    stored = sorted(run.pairs.all(), key=lambda pair: pair.pk)
    return display.chips([(pair.key, pair.value) for pair in stored]) if stored else display.EMPTY


def _shower(column: Column, tz: dt.tzinfo) -> Callable[[Run], Any]:
    def show(run: Run) -> str:
        value = run_columns.value(column, run)
        return display.EMPTY if value is None else _cell(column, value, tz)

    return show


def _cell(column: Column, value: Any, tz: dt.tzinfo) -> str:
    match value:
        case dt.datetime():
            return display.short_moment(value, tz)
        case int():
            return display.number(value)
    text = str(value)
    cut = display.text(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
    shown = format_html('<bdi title="{}">{}</bdi>', display.text(text), cut or display.EMPTY)
    if column.key is not None:
        return display.term_link(METADATA, text, shown, column.key)
    return display.term_link(column.name, text, shown) if column.name in _SEARCHED else shown
