"""Who may do what: asked here, for every door. The permissions are Django's own, given in the admin."""

from enum import StrEnum

from django.contrib.auth.models import User

from runsadmin.errors import NotAllowed


class Action(StrEnum):
    """What people do, and the permission that it takes."""

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


_WORDS = {
    Action.VIEW_RUNS: "look at runs",
    Action.EDIT_METADATA: "edit metadata",
    Action.VIEW_EDITS: "look at the log of edits",
    Action.VIEW_THREADS: "look at threads",
    Action.TRACK_THREADS: "track threads",
    Action.UNTRACK_THREADS: "stop tracking threads",
    Action.VIEW_SYNCS: "look at syncs",
    Action.SYNC: "start a sync",
    Action.VIEW_BULK_EDITS: "look at bulk edits",
    Action.PLAN_BULK_EDITS: "plan bulk edits",
    Action.APPLY_BULK_EDITS: "apply bulk edits",
    Action.HOLD: "hold or release a connection",
}


def may(actor: User, action: Action) -> bool:
    """An account that is switched off may do nothing."""
    return actor.is_active and actor.has_perm(action.value)


def require(actor: User, action: Action) -> None:
    """Raises NotAllowed, in words that say what to ask for."""
    if not may(actor, action):
        raise NotAllowed(
            f"The account {actor.get_username()!r} may not {_WORDS[action]}: "
            f"it needs the permission {action.value!r}. An administrator can give it."
        )
