"""Runs a whole bulk edit on the database of the settings. Prints its duration and its CPU time, in seconds."""

import sys

import django


def main(*numbers: str) -> None:
    """The arguments: edits, runs per thread, and the upstream's latency in milliseconds."""
    django.setup()
    from django.core.management import call_command

    from bench.push import whole_bulk_edit

    call_command("migrate", verbosity=0)
    print(*whole_bulk_edit(*map(int, numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
