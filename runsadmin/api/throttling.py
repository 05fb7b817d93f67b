"""A rate limit per account, so that no account can use up the capacity of the others."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from runsadmin.services import api_rate


class AccountThrottle(BaseThrottle):
    """Unauthenticated requests are rejected before throttling."""

    seconds = 0.0

    def allow_request(self, request: Request, view: Any) -> bool:
        assert isinstance(request.user, User)
        self.seconds = api_rate.use_one(request.user)
        return not self.seconds

    def wait(self) -> float:
        return self.seconds
