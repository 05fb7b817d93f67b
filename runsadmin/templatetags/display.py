"""Formats values for pages. A template library: `{% load display %}`.

Any value that an upstream sent can be shown: lone surrogates and U+0000 are written as escapes.
"""

import datetime as dt
import json
from collections.abc import Iterable
from html import unescape
from typing import Any
from urllib.parse import urlencode

from django import template
from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html, format_html_join, strip_tags
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from runsadmin import conf
from runsadmin.models import BulkEdit, Run, Thread
from runsadmin.search.fields import METADATA
from runsadmin.services.distinct_texts import Counted
from runsadmin.services.edits import Wait
from runsadmin.templatetags import links
from runsadmin.text import printable

register = template.Library()

# The color of each status of a run, an edit, a bulk edit or a sync.
TONES = {
    **dict.fromkeys(("completed", "applied"), "good"),
    **dict.fromkeys(("failed", "rejected"), "bad"),
    **dict.fromkeys(
        ("expired", "incomplete", "differs", "conflict", "unknown", "completed_with_errors", "paused"), "warn"
    ),
    **dict.fromkeys(
        ("queued", "in_progress", "requires_action", "cancelling", "pending", "sending", "planning", "running"), "busy"
    ),
}
# In characters. What keeps the API's limits is shown whole; other servers have longer keys and values.
LONGEST_KEY, LONGEST_VALUE, LONGEST_TOOLTIP = 200, 2000, 600
MAX_TOOLTIP_LINES = 20
EMPTY = SafeString('<span class="ra-none">–</span>')
MINUTE, HOUR, DAY = 60, 3600, 86400


@register.filter
def wait(wait: Wait | None) -> str | SafeString:
    """What an edit waits for, and until when. Empty if it does not wait."""
    if wait is None:
        return ""
    until = format_html(", until {} at the latest", moment(wait.until)) if wait.until else ""
    return format_html('<span class="ra-note ra-wait">Waits for <bdi>{}</bdi>{}.</span>', text(wait.what), until)


@register.filter
def text(value: object) -> str:
    """Any JSON value as text that can be encoded."""
    return printable(value)


@register.filter
def pretty(value: object) -> str:
    """A value as indented JSON."""
    return text(json.dumps(value, ensure_ascii=False, indent=2))


@register.filter
def badge(status: str, label: str = "") -> SafeString:
    """A status as a colored label."""
    shown = label or status.replace("_", " ")
    return format_html('<span class="ra-badge ra-{}">{}</span>', TONES.get(status, "calm"), capfirst(shown))


@register.filter
def status(row: Any) -> SafeString:
    """The status of a run, an edit, a bulk edit or a sync as a badge. Runs may have any status."""
    if isinstance(row, Run):
        return term_link("status", row.status, badge(row.status))
    return badge(row.status, row.get_status_display())


def term_link(field: str, value: str, shown: str, key: str | None = None) -> SafeString:
    """A link to the runs with this value. Within the run list, a script adds the term to the search instead."""
    return format_html('<a data-term href="{}">{}</a>', links.value_url(field, value, key), shown)


def model(run: Run) -> SafeString:
    """The model of a run, for lists."""
    return term_link("model", run.model, text(run.model)) if run.model else EMPTY


@register.filter
def age(time: dt.datetime | None) -> str:
    """How long ago, or how far ahead: "3 min ago", "in 2 days"."""
    if time is None:
        return ""
    seconds = (timezone.now() - time).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    for length, unit in ((DAY, "day"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
        if size >= length:
            count = int(size // length)
            unit += "s" if unit == "day" and count != 1 else ""
            break
    return f"{count:,} {unit} ago" if seconds > 0 else f"in {count:,} {unit}"


@register.filter
def moment(time: dt.datetime | None) -> SafeString:
    """A time in UTC, with its age."""
    return _time(time, '<time class="ra-moment" datetime="{iso}">{exact} UTC <span>{age}</span></time>')


@register.filter
def short_moment(time: dt.datetime | None, tz: dt.tzinfo = dt.UTC) -> SafeString:
    """A time for lists: its age comes first, since that is what people scan for."""
    html = '<time class="ra-short" datetime="{iso}" title="{exact} {zone}">{age} <span>{exact:.16}</span></time>'
    return _time(time, html, tz)


def _time(time: dt.datetime | None, html: str, tz: dt.tzinfo = dt.UTC) -> SafeString:
    if time is None:
        return EMPTY
    try:
        local = time.astimezone(tz)
    except OverflowError:  # It is at the end of the range of a datetime.
        local = time.astimezone(dt.UTC)
    return format_html(
        html, iso=local.isoformat(), exact=f"{local:%Y-%m-%d %H:%M:%S}", zone=local.tzname(), age=age(time)
    )


def connection(row: Run | Thread) -> str | SafeString:
    """The connection of a run or a thread, for lists. Empty for the only one that is configured."""
    is_default = row.connection == conf.default_connection()
    return "" if is_default else format_html('<span class="ra-note">{}</span>', row.connection)


def when(row: Any) -> SafeString:
    """When an edit, a bulk edit or a sync was created, for lists."""
    return short_moment(row.created_at)


UNKNOWN = SafeString('<span class="ra-none">unknown</span>')


@register.filter
@admin.display(ordering="created_at")
def created(run: Run) -> SafeString:
    """A run's creation time, for lists."""
    return short_moment(run.created_at) if run.created_at_is_known else UNKNOWN


@register.filter
def duration(value: dt.timedelta | None) -> str | SafeString:
    """A duration: `1 h 4 min`, `2 min 3 s`, `9 s`."""
    if value is None:
        return EMPTY
    seconds = int(value.total_seconds())
    hours, minutes = seconds // HOUR, seconds % HOUR // MINUTE
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % MINUTE} s" if minutes else f"{seconds} s"


@register.filter
def number(value: int | None) -> str | SafeString:
    """A number with separators: `12,345`."""
    return EMPTY if value is None else f"{value:,}"


@register.filter
def labels(headers: list[dict[str, Any]]) -> list[str]:
    """The label of each column of a list, as an attribute of its cells. Empty for the column of checkboxes."""
    # The header of a metadata key is HTML.
    texts = [
        unescape(strip_tags(text)) if isinstance(text, SafeString) else capfirst(text)
        for text in (header["text"] for header in headers)
    ]
    return [format_html(' data-label="{}"', text) if text.strip() else "" for text in texts]


@register.filter
def labeled(cells: list[str], labels: list[str]) -> SafeString:
    """The cells of a row, which begin with `<td` or `<th`, with their labels."""
    return SafeString("".join(f"{cell[:3]}{label}{cell[3:]}" for cell, label in zip(cells, labels, strict=True)))


@register.filter
def capped(count: int, cap: int) -> str:
    """A count that stops at one more than the cap: `10,000+`."""
    return f"{cap:,}+" if count > cap else f"{count:,}"


@register.filter
def counted(found: Counted) -> str:
    """How many runs have a text: `10,000+` if counting stopped."""
    return f"{found.count:,}{'+' * found.count_is_capped}"


def chips(pairs: list[tuple[str, str]]) -> SafeString:
    """The metadata of a run as compact chips, which are links. A tooltip shows the whole text of each chip."""
    values = (format_html("<bdi>{}</bdi>", _cut(value, 32)) for _, value in pairs)
    urls = [links.value_url(METADATA, value, key) for key, value in pairs[:4]]
    titles = [(key, f"{_cut(key, LONGEST_KEY)}: {_cut(value, LONGEST_TOOLTIP)}") for key, value in pairs]
    return _chips(titles, values, limit=4, urls=urls)


def _chips(
    keys: list[tuple[str, str]], values: Iterable[SafeString], *, limit: int, urls: list[str] | None = None
) -> SafeString:
    """Keys, each with a tooltip, and values on one line. `+3` stands for three more keys, which its tooltip lists."""
    named = zip(keys[:limit], values, strict=False)
    chips = [(title, _cut(key, 24), value) for (key, title), value in named]
    if urls is None:
        shown = format_html_join("", '<span class="ra-chip" title="{}"><b dir="auto">{}</b>{}</span>', chips)
    else:
        html = '<a data-term href="{}" class="ra-chip" title="{}"><b dir="auto">{}</b>{}</a>'
        shown = format_html_join("", html, ((url, *chip) for url, chip in zip(urls, chips, strict=True)))
    others = [title for _, title in keys[limit:]]
    listed = [*others[:MAX_TOOLTIP_LINES], *(["…"] if len(others) > MAX_TOOLTIP_LINES else [])]
    rest = format_html('<span class="ra-more" title="{}">+{}</span>', "\n".join(listed), len(others)) if others else ""
    return format_html('<span class="ra-chips">{}{}</span>', shown, rest)


def _cut(value: object, length: int) -> str:
    shown = text(value)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


@register.simple_tag
def value(value: object, kind: str = "") -> SafeString:
    """A metadata value, or a note that there is none. Strings are styled differently from other JSON."""
    if value is None:
        return SafeString('<span class="ra-none">absent</span>')
    css = "ra-value" if isinstance(value, str) else "ra-value ra-json"
    if value == "":
        return format_html('<span class="{} {} ra-empty">empty text</span>', css, kind)
    return format_html('<bdi class="{} {}">{}</bdi>', css, kind, _cut(value, LONGEST_VALUE))


@register.filter
def get_item(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key)


def diff_chips(changes: list[Any]) -> SafeString:
    """The changes of an edit as compact chips: links to the runs with the new value or, if removed, the old one."""
    sides = (format_html('{}<span class="ra-arrow">→</span>{}', *_sides(change)) for change in changes)
    values = [(change.key, change.old if change.new is None else change.new) for change in changes[:3]]
    urls = [links.runs_with(METADATA, value, key) for key, value in values]
    return _chips([(change.key, _tooltip(change)) for change in changes], sides, limit=3, urls=urls)


def _tooltip(change: Any) -> str:
    old, new = ("nothing" if value is None else _cut(value, LONGEST_TOOLTIP) for value in (change.old, change.new))
    return f"{_cut(change.key, LONGEST_KEY)}: {old if change.is_seen else '?'} → {new}"


def _sides(change: Any) -> tuple[str, str]:
    if change.is_same:
        return _side(change.old, ""), _side(change.new, "")
    return _side(change.old, "ra-old") if change.is_seen else "?", _side(change.new, "ra-new")


def _side(value: object, css: str) -> SafeString:
    if value is None:
        return SafeString('<span class="ra-none">∅</span>')
    return format_html('<bdi class="{}">{}</bdi>', css, _cut(value, 24))


def actor(row: Any) -> SafeString:
    """The actor of an edit or a bulk edit, as a link to the list of those of this actor."""
    name = row.actor.get_username()
    return format_html('<a href="?{}"><bdi>{}</bdi></a>', urlencode({"by": name}), name)


def reason(row: Any) -> SafeString:
    """The reason of an edit or a bulk edit, for lists."""
    if not row.reason:
        return EMPTY
    return format_html('<span class="ra-reason" title="{0}"><bdi>{0}</bdi></span>', row.reason)


def patch_chips(bulk_edit: BulkEdit) -> SafeString:
    """What a bulk edit does to each key, as compact chips."""
    if bulk_edit.undoes is not None:
        return format_html('<span class="ra-chip">undoes bulk edit {}</span>', bulk_edit.undoes.pk)
    effects = [
        *((key, value(_cut(template, 32), "ra-new")) for key, template in bulk_edit.set.items()),
        *((key, SafeString('<span class="ra-removed">removed</span>')) for key in bulk_edit.remove),
        *((old, format_html('<span class="ra-arrow">renamed to</span><bdi>{}</bdi>', _cut(new, 24)))
          for old, new in bulk_edit.rename.items()),
    ]  # fmt: skip
    return _chips([(key, _cut(key, LONGEST_KEY)) for key, _ in effects], (effect for _, effect in effects), limit=4)


@register.filter
def remaining(seconds: float) -> str | SafeString:
    """The remaining time: `2 min 3 s`."""
    return duration(dt.timedelta(seconds=max(seconds, 1)))
