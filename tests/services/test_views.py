"""Saved views: who can see, change and share them, and what happens to them if an account is deleted."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection

from runsadmin.errors import InvalidColumns, InvalidSearch, InvalidView, NotAllowed, UnknownView
from runsadmin.models import SavedView
from runsadmin.services import views
from runsadmin.services.permissions import Action

pytestmark = pytest.mark.django_db

type MakeUser = Callable[..., User]


def save(actor: User, name: str = "Failed", /, **fields: object) -> SavedView:
    return views.save(view=SavedView(name=name, **fields), actor=actor)


def seen_by(user: User) -> list[str]:
    return [view.slug for view in views.visible_to(user)]


def test_view_is_stored_as_written(alice: User) -> None:
    save(alice, query="status:failed   tokens:>1", columns="id, status", sort="-duration", tz="Europe/Berlin")
    view = views.resolve("failed", alice)
    assert (view.query, view.columns, view.sort) == ("status:failed   tokens:>1", "id, status", "-duration")
    assert str(views.search_of(view).node) == "status:failed tokens:>1"
    assert str(views.search_of(view).tz) == "Europe/Berlin"


def test_private_view_is_seen_by_its_owner(alice: User, bob: User) -> None:
    save(alice, "Mine")
    save(alice, "Ours", is_shared=True)
    assert (seen_by(alice), seen_by(bob)) == (["mine", "ours"], ["ours"])
    with pytest.raises(UnknownView, match="no view 'mine', or it is private"):
        views.resolve("mine", bob)
    with pytest.raises(UnknownView, match=r"Did you mean ours\?"):
        views.resolve("our", bob)


def test_sharing_needs_a_permission(alice: User, carol: User) -> None:
    view = save(carol)
    view.is_shared = True
    with pytest.raises(NotAllowed, match=r"runsadmin\.share_savedview"):
        views.save(view=view, actor=carol)
    with pytest.raises(NotAllowed):
        save(carol, is_shared=True)
    assert not SavedView.objects.filter(is_shared=True).exists()


def test_saving_needs_permission_to_view_runs(make_user: MakeUser) -> None:
    with pytest.raises(NotAllowed, match=r"runsadmin\.view_run"):
        save(make_user())


def test_others_may_not_change_a_view(alice: User, bob: User) -> None:
    view = save(alice, is_shared=True)
    view.name = "Bob's"
    for refused in (lambda: views.save(view=view, actor=bob), lambda: views.delete(view=view, actor=bob)):
        with pytest.raises(NotAllowed, match="belongs to alice"):
            refused()
    assert SavedView.objects.get().name == "Failed"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"query": "sttus:failed"}, InvalidSearch, "Did you mean status"),
        ({"columns": "stats"}, InvalidColumns, "Did you mean status"),
        ({"sort": "model"}, InvalidView, "-duration"),
        ({"tz": "Mars"}, InvalidView, "Europe/Berlin"),
        ({"name": " "}, InvalidView, "needs a name"),
        ({"name": "x" * 101}, InvalidView, "at most 100"),
        ({"slug": "Not a slug"}, InvalidView, "lower-case"),
        ({"slug": "taken"}, InvalidView, "already used"),
    ],
)
def test_invalid_view_is_refused(fields: dict[str, str], error: type, message: str, alice: User, bob: User) -> None:
    save(bob, slug="taken")
    with pytest.raises(error, match=message):
        views.save(view=SavedView(**{"name": "x"} | fields), actor=alice)
    assert SavedView.objects.count() == 1


def test_stored_search_that_no_longer_parses_is_kept(alice: User) -> None:
    view = save(alice)
    SavedView.objects.update(query="removed_field:x")
    view.refresh_from_db()
    assert [field for field, _ in views.problems(view)] == ["query"]
    with pytest.raises(InvalidSearch):
        views.search_of(view)

    view.name = "Renamed"
    views.save(view=view, actor=alice)

    assert SavedView.objects.values_list("name", "query").get() == ("Renamed", "removed_field:x")
    view.query = "other_field:x"
    with pytest.raises(InvalidSearch):
        views.save(view=view, actor=alice)


def test_slugs_are_made_from_names(alice: User, bob: User) -> None:
    slugs = [save(user, name).slug for user, name in [(alice, "R&D: Fehler"), (bob, "rd _ fehler"), (alice, "失败")]]
    assert slugs == ["rd-fehler", "rd-fehler-2", "view"]
    assert [views.resolve(slug, alice).slug for slug in slugs[::2]] == slugs[::2]
    assert len(save(alice, "x" * 100).slug) <= 100


def test_deleting_an_account_keeps_shared_views(make_user: MakeUser, alice: User, bob: User, carol: User) -> None:
    dave = make_user(*Action, username="dave")
    save(dave, "Mine")
    shared = save(dave, "Ours", is_shared=True)
    views.set_default(view=shared, actor=bob)

    dave.delete()

    assert seen_by(bob) == ["ours"]
    assert views.default_of(bob) == shared
    shared.refresh_from_db()
    assert (shared.owner, views.may_change(shared, carol)) == (None, False)
    shared.is_shared = False
    assert views.save(view=shared, actor=alice).owner == alice
    assert views.default_of(bob) is None


def test_private_view_needs_an_owner() -> None:
    with pytest.raises(IntegrityError):
        SavedView.objects.create(name="x", slug="x")


def test_everyone_has_a_default_of_their_own(alice: User, bob: User) -> None:
    mine, ours = save(alice, "Mine"), save(alice, "Ours", is_shared=True)
    views.set_default(view=mine, actor=alice)
    views.set_default(view=ours, actor=bob)
    assert (views.default_of(alice), views.default_of(bob)) == (mine, ours)
    with pytest.raises(UnknownView):
        views.set_default(view=mine, actor=bob)
    views.set_default(view=None, actor=bob)
    views.delete(view=mine, actor=alice)
    assert views.default_of(alice) is None
    assert views.default_of(bob) is None


@pytest.mark.parametrize("change", [views.save, views.set_default, views.delete])
def test_deleted_view_cannot_be_changed(change: Callable[..., object], alice: User) -> None:
    view = save(alice)
    SavedView.objects.all().delete()
    view.name = "Renamed"
    with pytest.raises(UnknownView):
        change(view=view, actor=alice)
    assert not SavedView.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [views.save, views.set_default])
def test_view_is_not_deleted_while_it_is_changed(
    change: Callable[..., object], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, locked = save(alice), views._locked
    deletions: list[Future[None]] = []

    def delete() -> None:
        views.delete(view=view, actor=alice)
        connection.close()

    def delete_once_locked(view: SavedView) -> SavedView:
        stored = locked(view)
        if not deletions:
            deletions.append(pool.submit(delete))
            time.sleep(0.2)
        return stored

    monkeypatch.setattr(views, "_locked", delete_once_locked)
    view.name = "Renamed"
    with ThreadPoolExecutor() as pool:
        change(view=view, actor=alice)
        deletions[0].result()
    assert not SavedView.objects.exists()
