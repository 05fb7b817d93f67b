"""What an edit that was just pushed means to the one who asked: done, under way, or a problem."""

from typing import Any

from rest_framework.request import Request

from runsadmin.api.problems import ProblemType, Refused
from runsadmin.api.serializers import EditSerializer
from runsadmin.models import Edit, EditStatus

_REFUSALS = {
    EditStatus.CONFLICT: (
        ProblemType.EDIT_CONFLICT,
        "Look at `conflicts` and decide: send what is to be to the edit's resolve/, or change the run again.",
    ),
    EditStatus.REJECTED: (ProblemType.EDIT_REJECTED, "Nothing was changed. Mend it and send it again."),
    EditStatus.FAILED: (ProblemType.EDIT_FAILED, "Nothing was changed. POST to the edit's retry/ has it tried again."),
    EditStatus.CANCELLED: (ProblemType.EDIT_CANCELLED, "Nothing was changed."),
}


def is_done(edit: Edit, request: Request) -> bool:
    """Whether it ended well; False while it is under way. Raises Refused when it ended otherwise."""
    if (refusal := _REFUSALS.get(EditStatus(edit.status))) is not None:
        problem, what_to_do = refusal
        shape: dict[str, Any] = dict(EditSerializer(edit, context={"request": request}).data)
        raise Refused(problem, f"{edit.detail} {what_to_do}", edit=shape, conflicts=shape["conflicts"])
    return edit.has_ended
