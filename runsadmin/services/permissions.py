"""Who may do what, for all entry points. Permissions are those of Django, granted in the admin.

Roles are groups that `migrate` creates together with the tables. After that, each site may change them.
"""

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet, TextChoices

from runsadmin.errors import NotAllowed


class Action(TextChoices):
    """The permissions, and what they allow users to do."""

    VIEW_RUNS = "runsadmin.view_run", "view runs"
    # Also needed to undo, retry, cancel or resolve an edit, and to refresh a run.
    EDIT_METADATA = "runsadmin.change_run", "edit metadata"
    VIEW_EDITS = "runsadmin.view_edit", "view edits"
    VIEW_THREADS = "runsadmin.view_thread", "view threads"
    TRACK_THREADS = "runsadmin.add_thread", "track threads"
    UNTRACK_THREADS = "runsadmin.delete_thread", "stop tracking threads"
    VIEW_SYNCS = "runsadmin.view_sync", "view syncs"
    SYNC = "runsadmin.add_sync", "start a sync"
    VIEW_BULK_EDITS = "runsadmin.view_bulkedit", "view bulk edits"
    PLAN_BULK_EDITS = "runsadmin.add_bulkedit", "plan bulk edits"
    # Also needed to pause, resume, cancel or retry a bulk edit.
    APPLY_BULK_EDITS = "runsadmin.apply_bulkedit", "apply bulk edits"
    VIEW_TASKS = "runsadmin.view_task", "view background tasks"
    RETRY_TASKS = "runsadmin.change_task", "retry background tasks"
    HOLD = "runsadmin.change_connectionstate", "hold or release a connection"
    # Everyone who may view runs can save views of their own.
    SHARE_VIEWS = "runsadmin.share_savedview", "share saved views"


_VIEWING = (Action.VIEW_RUNS, Action.VIEW_EDITS, Action.VIEW_THREADS, Action.VIEW_SYNCS, Action.VIEW_BULK_EDITS)
_EDITING = (*_VIEWING, Action.EDIT_METADATA, Action.SHARE_VIEWS)
# Most users need one of these groups. An operator who also edits needs two.
ROLES = {
    "Viewer": _VIEWING,
    "Editor": _EDITING,
    "Bulk editor": (*_EDITING, Action.PLAN_BULK_EDITS, Action.APPLY_BULK_EDITS),
    "Operator": (
        *_VIEWING,
        Action.TRACK_THREADS,
        Action.UNTRACK_THREADS,
        Action.SYNC,
        Action.VIEW_TASKS,
        Action.RETRY_TASKS,
        Action.HOLD,
        Action.SHARE_VIEWS,
    ),
}


def may(actor: User, action: Action) -> bool:
    """Whether the actor has a permission. Inactive accounts have none."""
    return actor.is_active and actor.has_perm(action.value)


def require(actor: User, action: Action) -> None:
    """Raises NotAllowed, with a message that says which permission to request."""
    if not may(actor, action):
        raise NotAllowed(why_not(actor, action))


def why_not(actor: User, action: Action) -> str:
    """The message for an actor who lacks a permission: which one, and who can grant it."""
    role = next(name for name, actions in ROLES.items() if action in actions)
    lacks = _lacks(actor, action.value, action.label)
    return (
        f"{lacks}, which the group {role} has. A superuser, or staff who may change users, can add the account to the "
        "group."
    )


def why_not_permitted(actor: User, permission: str, what: str) -> str:
    """Like `why_not`, for a permission to manage accounts or tokens, which none of the groups has."""
    lacks = _lacks(actor, permission, what)
    return f"{lacks}. A superuser can grant it, and so can staff who have it and may change users."


def _lacks(actor: User, permission: str, what: str) -> str:
    return f"The account {actor.get_username()!r} may not {what}: it lacks the permission {permission}"


def assignable() -> QuerySet[Permission]:
    """The permissions that have an effect: those of the actions above, and those to manage users and groups.

    Django creates four permissions for every model, and most of them are never checked.
    """
    accounts = Q(content_type__app_label="auth", content_type__model__in=("user", "group"))
    return Permission.objects.filter(accounts | _that_allow(Action))


def grantable(actor: User) -> QuerySet[Permission]:
    """The permissions that an actor may grant: their own."""
    return Permission.objects.all() if actor.is_superuser else _permissions_of(actor)


def grantable_groups(actor: User) -> QuerySet[Group]:
    """The groups that an actor may grant: those with no permission that the actor lacks."""
    return Group.objects.exclude(permissions__in=Permission.objects.exclude(pk__in=grantable(actor).values("pk")))


def may_manage(actor: User, holder: User | Group) -> bool:
    """Whether an actor has every permission of an account or group, so that changing it gives the actor no new ones.

    For example, an actor who sets the password of an account can then sign in with it.
    """
    if actor.is_superuser:
        return True
    is_superuser = isinstance(holder, User) and holder.is_superuser
    return not is_superuser and not _permissions_of(holder).exclude(pk__in=grantable(actor).values("pk")).exists()


def _permissions_of(holder: User | Group) -> QuerySet[Permission]:
    if isinstance(holder, Group):
        return Permission.objects.filter(group=holder)
    return Permission.objects.filter(Q(user=holder) | Q(group__user=holder))


def create_roles() -> None:
    """Creates the groups that do not exist yet. A group of the same name stays as it is."""
    for name, actions in ROLES.items():
        group, is_new = Group.objects.get_or_create(name=name)
        if is_new:
            group.permissions.set(Permission.objects.filter(_that_allow(actions)))


def _that_allow(actions: Iterable[Action]) -> Q:
    codenames = [action.value.removeprefix("runsadmin.") for action in actions]
    return Q(content_type__app_label="runsadmin", codename__in=codenames)


def label(permission: Permission) -> str:
    """What a permission allows, in plain words."""
    name = f"{permission.content_type.app_label}.{permission.codename}"
    verb = Action(name).label if name in Action.values else permission.name.removeprefix("Can ")
    return verb[:1].upper() + verb[1:]
