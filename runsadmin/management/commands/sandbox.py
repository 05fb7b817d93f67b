import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from runsadmin.sandbox import command_line


class Command(BaseCommand):
    help = "Runs the bundled sandbox: an Assistants-compatible server to try things on."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        command_line.add_arguments(
            parser,
            port=os.environ.get("SANDBOX_PORT") or 8001,
            key=settings.RUNSADMIN_CONNECTIONS["default"]["API_KEY"] or None,
            state=Path(settings.BASE_DIR) / "var" / "sandbox",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(command_line.run(Namespace(**options)))
