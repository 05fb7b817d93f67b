"""How our commands speak: words for people, or JSON for programs; mistakes one a line, and an exit code that tells."""

from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any, NoReturn

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runsadmin import conf, lenient_json
from runsadmin.errors import InvalidMetadata, RunsAdminError
from runsadmin.services import connections, probes
from runsadmin.text import clean


class ReportingCommand(BaseCommand):
    """With --json, standard output holds one JSON object a line and nothing else. Mistakes go to standard error."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Speak JSON: one object a line.")

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.speaks_json = options["json"]
        self.mistakes = 0
        try:
            said = super().execute(*args, **options)
        except InvalidMetadata as error:
            for problem in error.problems:
                self.complain(problem.message)
            self.give_up("Nothing was changed.")
        except RunsAdminError as error:
            self.give_up(str(error))
        if self.mistakes:
            raise CommandError(f"{self.mistakes:,} went wrong; what is said above tells.", returncode=1)
        return said

    def say(self, words: str, *, is_fine: bool = True, mistakes: int = 1, **facts: Any) -> None:
        """The words for people, or the facts for programs. What is not fine is a mistake as well, or so many."""
        if not is_fine:
            self.complain(words, mistakes)
        if self.speaks_json:
            self.stdout.write(lenient_json.dumps(facts))
        elif is_fine:
            self.stdout.write(words)

    def complain(self, words: str, mistakes: int = 1) -> None:
        """Goes on; the exit code will tell. A summary counts what it sums up, and not itself."""
        self.mistakes += mistakes
        self.stderr.write(words)

    def try_connections(self, aliases: Iterable[str]) -> None:
        """Tries held connections at once, releases those that work again, and says why the others are held."""
        for alias in dict.fromkeys(aliases):
            probes.probe_now(alias)
            if reason := connections.hold_reason(alias):
                self.stderr.write(f"{alias}: {reason}")

    def give_up(self, words: str) -> NoReturn:
        raise CommandError(words) from None


def add_connection(parser: ArgumentParser) -> None:
    parser.add_argument("--connection", metavar="ALIAS", help="May be left out where only one is configured.")


def connection_of(alias: str | None) -> str:
    """The alias that is meant. Raises UnknownConnection, and CommandError where it has to be named."""
    if alias is not None:
        return conf.connection(alias).alias
    known = list(conf.connections())
    if len(known) != 1:
        raise CommandError(f"Several connections are configured. Name one: --connection {' | '.join(known)}.")
    return known[0]


def add_actor(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--actor",
        metavar="USER",
        help="Whose work it is: it stands in the log, and it takes the permissions of this account. "
        "May be left out where there is exactly one active superuser: then it is that one.",
    )


def actor_of(username: str | None) -> User:
    """Raises CommandError where nobody fits."""
    if username is not None:
        user = User.objects.filter(username=clean(username)).first()
        if user is None:
            raise CommandError(f"There is no account {username!r}.")
        return user
    superusers = User.objects.filter(is_superuser=True, is_active=True)[:2]
    if len(superusers) != 1:
        raise CommandError("Say whose work it is: --actor USER. (It could be left out if there were one superuser.)")
    return superusers[0]
