"""Who may do what, for all entry points. These are Django permissions, granted in the admin.

Roles are groups that `migrate` creates together with the tables. After that, each site may change them.
"""

from enum import StrEnum

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet

from runsadmin.errors import NotAllowed


class Action(StrEnum):
    """What users can do, and the permission that it needs."""

    VIEW_RUNS = "runsadmin.view_run"
    EDIT_METADATA = "runsadmin.change_run"  # Also to undo, retry, cancel and resolve an edit, and to refresh a run.
    VIEW_EDITS = "runsadmin.view_edit"
    VIEW_THREADS = "runsadmin.view_thread"
    TRACK_THREADS = "runsadmin.add_thread"
    UNTRACK_THREADS = "runsadmin.delete_thread"
    VIEW_SYNCS = "runsadmin.view_sync"
    SYNC = "runsadmin.add_sync"
    VIEW_BULK_EDITS = "runsadmin.view_bulkedit"
    PLAN_BULK_EDITS = "runsadmin.add_bulkedit"
    APPLY_BULK_EDITS = "runsadmin.apply_bulkedit"  # Also to pause, resume, cancel and retry one.
    HOLD = "runsadmin.change_connectionstate"


_VERBS = {
    Action.VIEW_RUNS: "view runs",
    Action.EDIT_METADATA: "edit metadata",
    Action.VIEW_EDITS: "view edits",
    Action.VIEW_THREADS: "view threads",
    Action.TRACK_THREADS: "track threads",
    Action.UNTRACK_THREADS: "stop tracking threads",
    Action.VIEW_SYNCS: "view syncs",
    Action.SYNC: "start a sync",
    Action.VIEW_BULK_EDITS: "view bulk edits",
    Action.PLAN_BULK_EDITS: "plan bulk edits",
    Action.APPLY_BULK_EDITS: "apply bulk edits",
    Action.HOLD: "hold or release a connection",
}

_VIEWING = (Action.VIEW_RUNS, Action.VIEW_EDITS, Action.VIEW_THREADS, Action.VIEW_SYNCS, Action.VIEW_BULK_EDITS)
_EDITING = (*_VIEWING, Action.EDIT_METADATA)
# Each user needs one of the first three. An operator who edits as well needs two.
ROLES = {
    "Viewer": _VIEWING,
    "Editor": _EDITING,
    "Bulk editor": (*_EDITING, Action.PLAN_BULK_EDITS, Action.APPLY_BULK_EDITS),
    "Operator": (*_VIEWING, Action.TRACK_THREADS, Action.UNTRACK_THREADS, Action.SYNC, Action.HOLD),
}


def may(actor: User, action: Action) -> bool:
    """Inactive accounts may do nothing."""
    return actor.is_active and actor.has_perm(action.value)


def require(actor: User, action: Action) -> None:
    """Raises NotAllowed, with a message that says which permission to request."""
    if not may(actor, action):
        raise NotAllowed(why_not(actor, action))


def why_not(actor: User, action: Action) -> str:
    """The message for an actor who lacks a permission: which one, and who can grant it."""
    role = next(name for name, actions in ROLES.items() if action in actions)
    return (
        f"The account {actor.get_username()!r} may not {_VERBS[action]}: it lacks the permission {action.value}, which "
        f"the group {role} has. A superuser can add the account to the group, as can staff who may change users."
    )


def assignable() -> QuerySet[Permission]:
    """The permissions that have an effect: those of the actions above, and those to manage users and groups.

    Django creates four for every model, most of which are never checked.
    """
    codenames = [action.value.removeprefix("runsadmin.") for action in Action]
    accounts = Q(content_type__app_label="auth", content_type__model__in=("user", "group"))
    return Permission.objects.filter(accounts | Q(content_type__app_label="runsadmin", codename__in=codenames))


def create_roles() -> None:
    """Creates the groups that do not exist yet. A group of the same name stays as it is."""
    for name, actions in ROLES.items():
        group, is_new = Group.objects.get_or_create(name=name)
        if is_new:
            codenames = [action.value.removeprefix("runsadmin.") for action in actions]
            group.permissions.set(
                Permission.objects.filter(content_type__app_label="runsadmin", codename__in=codenames)
            )


def label(permission: Permission) -> str:
    """What a permission allows, in plain words."""
    name = f"{permission.content_type.app_label}.{permission.codename}"
    verb = _VERBS[Action(name)] if name in list(Action) else permission.name.removeprefix("Can ")
    return verb[:1].upper() + verb[1:]
