"""Starts the sandbox from a shell: `python -m sandbox`."""

import argparse
import os
import sys
import time
from pathlib import Path

import uvloop

from sandbox.sandbox import Sandbox
from sandbox.seed import seed_store
from sandbox.server import listen, serve
from sandbox.settings import Settings
from sandbox.store import StateInUseError, Store


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="sandbox", description="An Assistants-compatible server for development and tests."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("SANDBOX_PORT", "8001"),
        help="the port, 0 for any free one (default: %(default)s)",
    )
    parser.add_argument(
        "--key", default=os.environ.get("SANDBOX_KEY"), help="the API key that callers need (default: SANDBOX_KEY)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default="var/sandbox",
        metavar="DIR",
        help="the directory of the stored state (default: %(default)s)",
    )
    parser.add_argument("--memory", action="store_true", help="keep the state in memory only")
    parser.add_argument(
        "--seed", action="store_true", help="add the threads and runs of a fictional team, unless they exist"
    )
    parser.add_argument("--threads", type=int, default=40, help="how many threads --seed adds (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=2000, help="how many runs --seed adds (default: %(default)s)")
    parser.add_argument(
        "--advance-runs",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether active runs end on their own",
    )
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Serves until it is stopped; returns the exit code."""
    try:
        listening = listen(options.host, options.port)
    except (OSError, OverflowError) as error:  # The port is taken or invalid.
        reason = str(getattr(error, "strerror", error)).rstrip(".")
        print(
            f"The sandbox cannot listen on {options.host}:{options.port}: {reason}. "
            "Choose another port with --port, or stop the program that uses this one.",
            file=sys.stderr,
        )
        return 1
    try:
        store = Store(None if options.memory else options.state)
    except (OSError, ValueError, StateInUseError) as error:
        print(f"The sandbox cannot open its state: {error}.", file=sys.stderr)
        return 1
    if options.seed:
        seed_store(store, threads=options.threads, runs=options.runs, seed=1, now=int(time.time()))
    sandbox = Sandbox(store, Settings(api_key=options.key, advance_runs=options.advance_runs))
    uvloop.run(serve(sandbox, listening))
    return 0
