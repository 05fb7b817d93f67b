"""The tools above the list of runs: its columns, its time zone, and saved views."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from django.contrib.admin.views.main import SEARCH_VAR
from django.http import HttpRequest

from runsadmin.admin.base import actor
from runsadmin.admin.list_state import COLUMNS, VIEW, ListAddress, query_of
from runsadmin.models import SavedView
from runsadmin.services import run_columns, views
from runsadmin.services.run_columns import Column
from runsadmin.templatetags import links

LIST_FIELDS = views.LIST_FIELDS


@dataclass(frozen=True)
class ShownColumn:
    """A column, and the lists of columns after it was moved or removed. Empty where that is not possible."""

    column: Column
    left: str
    right: str
    without: str


@dataclass(frozen=True)
class ListTools:
    request: HttpRequest
    shown: ListAddress

    @property
    def columns(self) -> list[ShownColumn]:
        columns = self.shown.columns
        return [
            ShownColumn(
                column,
                _text(_swapped(columns, number - 1)) if number else "",
                _text(_swapped(columns, number)) if number < len(columns) - 1 else "",
                _text([*columns[:number], *columns[number + 1 :]]) if len(columns) > 1 else "",
            )
            for number, column in enumerate(columns)
        ]

    @property
    def other_columns(self) -> list[tuple[Column, str]]:
        """The columns that can be added, and the lists with them. Metadata keys are typed."""
        columns = self.shown.columns
        return [(each, _text([*columns, each])) for each in run_columns.ALL if each not in columns]

    @property
    def columns_text(self) -> str:
        return self.request.GET.get(COLUMNS) or _text(self.shown.columns)

    @property
    def has_own_columns(self) -> bool:
        return bool(self.shown.columns_text)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the forms for columns and the time zone keep of the address."""
        return [(name, value) for name, value in self.shown.kept.items() if value]

    @property
    def tz(self) -> str:
        return self.shown.state.tz

    # --- Saved views

    @property
    def view(self) -> SavedView | None:
        return self.shown.view

    @property
    def is_own(self) -> bool:
        return self.view is not None and self.view.owner_id == actor(self.request).pk

    @cached_property
    def is_default(self) -> bool:
        return views.default_of(actor(self.request)) == self.view

    @property
    def differs(self) -> bool:
        return self.shown.differs

    @cached_property
    def may_save(self) -> bool:
        return self.view is not None and views.may_change(self.view, actor(self.request))

    @property
    def fields(self) -> list[tuple[str, str]]:
        """What the list shows, as the fields of a view."""
        return [(name, str(getattr(self.shown.state, name))) for name in LIST_FIELDS]

    @property
    def save_as(self) -> str:
        return f"{links.list_url(SavedView, 'add')}?{urlencode([each for each in self.fields if each[1]])}"

    @property
    def reset(self) -> str:
        return f"?{query_of(self.view)}" if self.view else ""

    @property
    def close(self) -> str:
        """The same list without the view. An address without parameters would open the default view."""
        given = {name: value for name, value in self.kept if name != VIEW}
        return "?" + urlencode(given or {SEARCH_VAR: ""})


def _text(columns: list[Column]) -> str:
    return ",".join(map(str, columns))


def _swapped(columns: list[Column], number: int) -> list[Column]:
    """The columns with those at this number and the next one exchanged."""
    return [*columns[:number], columns[number + 1], columns[number], *columns[number + 2 :]]
