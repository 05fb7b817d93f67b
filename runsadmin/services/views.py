"""Saved views: who sees and changes them, what they may contain, and which one a list of runs opens with."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain, count
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils.text import slugify

from runsadmin import search
from runsadmin.errors import InvalidColumns, InvalidView, NotAllowed, RunsAdminError, UnknownView
from runsadmin.models import DefaultView, SavedView
from runsadmin.models.saved_view import MAX_NAME_LENGTH, SavedViewQuerySet
from runsadmin.services import permissions, run_columns
from runsadmin.services.permissions import Action
from runsadmin.services.run_search import RunSearch, Sort
from runsadmin.text import is_text

# The fields that define the list, and those that a user can change. A slug never changes, so that links stay valid.
LIST_FIELDS = ("query", "columns", "sort", "tz")
FIELDS = ("name", *LIST_FIELDS, "is_shared")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class ListState:
    """What a list of runs shows, as texts. `columns` is empty for the default ones."""

    query: str = ""
    columns: str = ""
    sort: Sort = Sort.NEWEST
    tz: str = "UTC"

    @classmethod
    def of(cls, view: SavedView) -> "ListState":
        """An order that no longer exists is replaced with the default."""
        return cls(view.query, view.columns, Sort(view.sort) if view.sort in Sort else Sort.NEWEST, view.tz)

    def normalized(self) -> "ListState":
        """Equal for states that show the same list."""
        try:
            columns = run_columns.parse(self.columns) if self.columns else list(run_columns.DEFAULT)
        except InvalidColumns:
            return self
        return replace(self, query=self.query.strip(), columns=",".join(map(str, columns)))


def visible_to(actor: User) -> SavedViewQuerySet:
    """The actor's own views and the shared ones, by name."""
    return SavedView.objects.visible_to(actor).select_related("owner").order_by("name", "pk")


def resolve(slug: str, actor: User) -> SavedView:
    """The view with this slug. Raises UnknownView if there is none that the actor can see."""
    view = visible_to(actor).filter(slug=slug).first() if is_text(slug) else None
    if view is None:
        known = list(visible_to(actor).values_list("slug", flat=True)[:1000])
        nearest = get_close_matches(slug, known, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise UnknownView(f"There is no view {slug[:100]!r}, or it is private.{hint}")
    return view


def search_of(view: SavedView) -> RunSearch:
    """Raises InvalidSearch if the stored search can no longer be parsed."""
    return RunSearch.parse(view.query, search.time_zone(view.tz))


def default_of(actor: User) -> SavedView | None:
    """The view that the actor's list of runs opens with."""
    return SavedView.objects.visible_to(actor).filter(default_of__user=actor).first()


def may_change(view: SavedView, actor: User) -> bool:
    """Whether the actor owns the view and may view runs, or the view is shared and the actor may share views.

    In the latter case the view must have no owner, unless the actor is a superuser.
    """
    if view.owner_id == actor.pk:
        return permissions.may(actor, Action.VIEW_RUNS)
    is_free = view.owner_id is None or actor.is_superuser
    return view.is_shared and is_free and permissions.may(actor, Action.SHARE_VIEWS)


def problems(view: SavedView) -> Iterator[tuple[str, RunsAdminError]]:
    """The fields of a view that are invalid, each with its error. Stored ones can become invalid in a newer version."""
    for field, check in _CHECKS.items():
        try:
            check(getattr(view, field))
        except RunsAdminError as error:
            yield field, error
        except ValueError as error:
            yield field, InvalidView(str(error), field)


def save(*, view: SavedView, actor: User) -> SavedView:
    """Stores a new view, whose owner is the actor, or changes to one. What was not changed is not checked again.

    Raises NotAllowed, UnknownView, InvalidSearch, InvalidColumns or InvalidView. A new view gets a slug that is made
    from its name, unless it has one.
    """
    permissions.require(actor, Action.VIEW_RUNS)
    with transaction.atomic():
        return _save(view, actor)


def _save(view: SavedView, actor: User) -> SavedView:
    stored = _locked(view) if view.pk else None
    changed = {field for field in FIELDS if stored is None or getattr(stored, field) != getattr(view, field)}
    if stored is not None:
        _require_change(stored, actor)
    if view.is_shared and (stored is None or changed):
        permissions.require(actor, Action.SHARE_VIEWS)
    for field, error in problems(view):
        if field in changed:
            raise error
    if view.owner is None and (stored is None or not view.is_shared):
        view.owner = actor
    if stored is None:
        return _create(view)
    view.save(update_fields=[*changed, "owner", "updated_at"])
    if not view.is_shared:
        DefaultView.objects.filter(view=view).exclude(user=view.owner).delete()
    return view


def _locked(view: SavedView) -> SavedView:
    """The view as it is stored now. Nobody can delete it until the transaction ends. Raises UnknownView."""
    if stored := SavedView.objects.select_for_update(no_key=True).filter(pk=view.pk).first():
        return stored
    raise UnknownView(f"The view {view.slug!r} was deleted in the meantime.")


def delete(*, view: SavedView, actor: User) -> None:
    """Raises NotAllowed or UnknownView."""
    with transaction.atomic():
        view = _locked(view)
        _require_change(view, actor)
        view.delete()


def set_default(*, view: SavedView | None, actor: User) -> None:
    """Sets the view that the actor's list of runs opens with, or None for all runs. Raises UnknownView."""
    permissions.require(actor, Action.VIEW_RUNS)
    if view is None:
        DefaultView.objects.filter(user=actor).delete()
    else:
        with transaction.atomic():
            stored = _locked(resolve(view.slug, actor))
            DefaultView.objects.update_or_create(user=actor, defaults={"view": stored})


def _require_change(view: SavedView, actor: User) -> None:
    if not may_change(view, actor):
        owner = "nobody" if view.owner is None else view.owner.get_username()
        raise NotAllowed(
            f"The view {view.slug!r} belongs to {owner}, and the account {actor.get_username()!r} may not change it."
            " Save a copy instead."
        )


def _create(view: SavedView) -> SavedView:
    if view.slug:
        if not _SLUG.fullmatch(view.slug) or len(view.slug) > MAX_NAME_LENGTH:
            raise InvalidView("A slug has lower-case letters, digits and single hyphens, such as failed-today.", "slug")
        try:
            return _insert(view)
        except IntegrityError:
            raise InvalidView(f"The slug {view.slug!r} is already used. Choose another one.", "slug") from None
    base = re.sub("[-_]+", "-", slugify(view.name))[: MAX_NAME_LENGTH - 10].strip("-") or "view"
    for slug in chain([base], (f"{base}-{number}" for number in count(2))):
        if not SavedView.objects.filter(slug=slug).exists():
            view.slug = slug
            try:
                return _insert(view)
            except IntegrityError:  # Another request took it in the meantime.
                view.pk = None
    raise AssertionError  # The loop has no end.


def _insert(view: SavedView) -> SavedView:
    with transaction.atomic():
        view.save(force_insert=True)
    return view


def _check_name(name: str) -> None:
    if not name.strip():
        raise ValueError("A view needs a name.")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"A name has at most {MAX_NAME_LENGTH} characters, and this one has {len(name):,}.")


def _check_columns(columns: str) -> None:
    if columns:
        run_columns.parse(columns)


def _check_sort(sort: str) -> None:
    if sort not in Sort:
        raise ValueError(f"There is no order {sort[:60]!r}. Expected {', '.join(Sort)}.")


_CHECKS: dict[str, Any] = {
    "name": _check_name,
    "query": search.parse,
    "columns": _check_columns,
    "sort": _check_sort,
    "tz": search.time_zone,
}
