"""A whole bulk edit, in a process whose settings name the database: prints its seconds and its CPU seconds."""

import sys

import django


def main(edits: str, runs_per_thread: str) -> None:
    django.setup()
    from django.core.management import call_command

    from bench.push import whole_bulk_edit

    call_command("migrate", verbosity=0)
    print(*whole_bulk_edit(int(edits), int(runs_per_thread)))


if __name__ == "__main__":
    main(*sys.argv[1:])
