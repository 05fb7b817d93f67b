"""Whether the account may do what it requests. `services.permissions` decides."""

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from runsadmin.services import permissions


class HasRequiredPermission(IsAuthenticated):
    """Every action of a viewset names its permissions in `required_permissions`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        action = getattr(view, "action", None)  # None: the view has no actions.
        if action is not None and request.method in view.allowed_methods:  # Other methods result in a 405.
            assert request.user.is_authenticated
            for required in view.required_permissions[action]:
                permissions.require(request.user, required)
        return True
