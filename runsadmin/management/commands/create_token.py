"""`manage.py create_token USER`: makes a token for the REST API and prints it, once."""

import datetime as dt
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from runsadmin.management.base import ReportingCommand, actor_of
from runsadmin.services import tokens

DEFAULT_DAYS = settings.REST_KNOX["TOKEN_TTL"].days


class Command(ReportingCommand):
    help = "Makes a token for the REST API. It is printed now and can never be read again: only its hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("username", metavar="USER", help="Whose token it is: it can do what this account may.")
        lasts = parser.add_mutually_exclusive_group()
        lasts.add_argument(
            "--days", type=int, default=DEFAULT_DAYS, choices=range(1, 3651), metavar="N", help="Default: %(default)s."
        )
        lasts.add_argument("--never", action="store_true", help="It never expires. Better not.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = actor_of(options["username"])
        if not user.is_active:
            self.give_up(f"The account {user.get_username()!r} is switched off: its tokens would not work.")
        lasts = None if options["never"] else dt.timedelta(days=options["days"])
        token = tokens.create(user=user, expires_in=lasts)
        expires_at = None if lasts is None else timezone.now() + lasts
        self.say(token, token=token, user=user.get_username(), expires_at=expires_at)
