"""`manage.py tokens`: lists and revokes the tokens for the REST API."""

from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import CommandParser
from django.utils import timezone

from runsadmin.management.base import ReportingCommand, actor_of
from runsadmin.services import tokens


class Command(ReportingCommand):
    help = "Lists the tokens for the REST API, newest first, or revokes some. create_token creates them."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--user", metavar="USER", help="Only list the tokens of this account.")
        parser.add_argument(
            "--revoke",
            nargs="+",
            metavar="TOKEN",
            help="Revoke these tokens instead. The characters that the list shows are enough.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["revoke"]:
            # Find all of them first, so that a mistyped one changes nothing.
            for token in {token.pk: token for token in map(tokens.find, options["revoke"])}.values():
                tokens.revoke(token)
                self.report(f"Revoked: {_described(token)}", **_data(token))
            return
        found = tokens.newest_first()
        if options["user"] is not None:
            found = found.filter(user=actor_of(options["user"]))
        for token in found.iterator():
            self.report(_described(token), **_data(token))


def _data(token: Any) -> dict[str, Any]:
    try:
        name, last_used_on = token.details.name, token.details.last_used_on
    except ObjectDoesNotExist:
        name, last_used_on = "", None
    return {
        "token": token.token_key[: tokens.SHOWN_LENGTH], "name": name, "user": token.user.get_username(),
        "created_at": token.created, "last_used_on": last_used_on, "expires_at": token.expiry,
    }  # fmt: skip


def _described(token: Any) -> str:
    data = _data(token)
    expiry = "never expires"
    if token.expiry is not None:
        expiry = f"{'expired' if token.expiry <= timezone.now() else 'expires'} {token.expiry:%Y-%m-%d}"
    used = f"last used {data['last_used_on']}" if data["last_used_on"] else "never used"
    name = f" {data['name']!r}" if data["name"] else ""
    return f"{data['token']}…{name} of {data['user']}, created {token.created:%Y-%m-%d}, {used}, {expiry}"
