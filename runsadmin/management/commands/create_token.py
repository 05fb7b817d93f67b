"""`manage.py create_token USER`: creates a token for the REST API and prints it once."""

import datetime as dt
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from runsadmin.management.base import ReportingCommand, actor_of
from runsadmin.models.token_details import MAX_NAME_LENGTH
from runsadmin.services import tokens

DEFAULT_DAYS = settings.REST_KNOX["TOKEN_TTL"].days


class Command(ReportingCommand):
    help = "Creates a token for the REST API and prints it. It cannot be shown again: only its hash is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "username", metavar="USER", help="The account that the token belongs to and whose permissions it has."
        )
        parser.add_argument("--name", default="", help="What the token is for, as shown in lists of tokens.")
        lifetime = parser.add_mutually_exclusive_group()
        lifetime.add_argument(
            "--days",
            type=int,
            default=DEFAULT_DAYS,
            choices=range(1, 3651),
            metavar="N",
            help="The token expires in N days. Default: %(default)s.",
        )
        lifetime.add_argument("--never", action="store_true", help="The token never expires (not recommended).")

    def handle(self, *args: Any, **options: Any) -> None:
        user = actor_of(options["username"])
        if not user.is_active:
            name = user.get_username()
            self.fail(f"The account {name!r} is deactivated, so its tokens would not work. Activate it first.")
        if len(name := options["name"].strip()) > MAX_NAME_LENGTH:
            self.fail(f"--name may have at most {MAX_NAME_LENGTH} characters.")
        lifetime = None if options["never"] else dt.timedelta(days=options["days"])
        token = tokens.create(user=user, expires_in=lifetime, name=name)
        expires_at = None if lifetime is None else timezone.now() + lifetime
        self.report(token, token=token, user=user.get_username(), name=name, expires_at=expires_at)
