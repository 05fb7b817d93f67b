"""The response to a request that pushed an edit: done, still in progress, or a problem."""

from typing import Any

from rest_framework.request import Request

from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.serializers.edits import EditSerializer
from runsadmin.models import Edit, EditStatus

_PROBLEMS = {
    EditStatus.CONFLICT: (
        ProblemType.EDIT_CONFLICT,
        "See `conflicts`. POST to the edit's resolve/ with the metadata that you want, or edit the run again.",
    ),
    EditStatus.REJECTED: (ProblemType.EDIT_REJECTED, "Nothing was changed. Correct the request and send it again."),
    EditStatus.FAILED: (ProblemType.EDIT_FAILED, "Nothing was changed. POST to the edit's retry/ to try it again."),
    EditStatus.CANCELLED: (ProblemType.EDIT_CANCELLED, "Nothing was changed."),
}


def raise_for_status(edit: Edit, request: Request) -> None:
    """Raises ProblemError if the edit ended without its change."""
    if (problem := _PROBLEMS.get(EditStatus(edit.status))) is not None:
        problem_type, advice = problem
        if edit.status == EditStatus.REJECTED and edit.run.missing_since:
            advice = "Nothing was changed. The mirror keeps its copy of this run."
        shown: dict[str, Any] = dict(EditSerializer(edit, context={"request": request}).data)
        raise ProblemError(problem_type, f"{edit.detail} {advice}", edit=shown, conflicts=shown["conflicts"])
