#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        sys.exit("Django is not installed for this Python. Activate the virtual environment: . .venv/bin/activate")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # The message says which setting to correct.
        sys.exit(str(error))


if __name__ == "__main__":
    main()
