"""Starting the sandbox from a shell: `python -m runsadmin.sandbox`."""

import argparse
import sys
import time
from pathlib import Path

import uvloop

from runsadmin.sandbox.sandbox import Sandbox
from runsadmin.sandbox.seed import plant
from runsadmin.sandbox.server import listen, serve
from runsadmin.sandbox.settings import Settings
from runsadmin.sandbox.store import StateInUseError, Store


def add_arguments(parser: argparse.ArgumentParser, *, port: int | str, key: str | None, state: Path) -> None:
    """The options, with the defaults of whoever starts it. A port that is text is judged as one given is."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--key", default=key, help="the API key that callers need (default: the configured one, if any)"
    )
    parser.add_argument(
        "--state", type=Path, default=state, metavar="DIR", help="where it is kept (default: %(default)s)"
    )
    parser.add_argument("--memory", action="store_true", help="keep nothing: the end of the process is the end of it")
    parser.add_argument("--seed", action="store_true", help="start with the data of a made-up team, unless it is there")
    parser.add_argument("--threads", type=int, default=40, help="how many threads it has (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=2000, help="how many runs it has (default: %(default)s)")
    parser.add_argument(
        "--advance-runs",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether active runs come to their end by themselves",
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sandbox", description="An Assistants-compatible server to try things on.")
    add_arguments(parser, port=8001, key=None, state=Path("var/sandbox"))
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Serves until it is told to stop; returns the exit code."""
    try:
        listening = listen(options.host, options.port)
    except (OSError, OverflowError) as error:  # Taken, or no port at all.
        reason = str(getattr(error, "strerror", error)).rstrip(".")
        print(
            f"The sandbox cannot listen on {options.host}:{options.port}: {reason}. "
            "Stop the program that has the port, or choose another with --port.",
            file=sys.stderr,
        )
        return 1
    try:
        store = Store(None if options.memory else options.state)
    except (OSError, ValueError, StateInUseError) as error:
        print(f"The sandbox cannot open its state: {error}.", file=sys.stderr)
        return 1
    if options.seed:
        plant(store, threads=options.threads, runs=options.runs, seed=1, now=int(time.time()))
    sandbox = Sandbox(store, Settings(api_key=options.key, advance_runs=options.advance_runs))
    uvloop.run(serve(sandbox, listening))
    return 0
