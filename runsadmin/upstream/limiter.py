"""Computes when the next requests of a rate-limited connection may be sent. The state is stored in the database."""

import datetime as dt
from dataclasses import dataclass

# This share of a connection's requests per minute is reserved for interactive edits.
INTERACTIVE_SHARE = 0.1


@dataclass(frozen=True)
class Lanes:
    """When each lane has its next free slot. None: now."""

    interactive: dt.datetime | None
    background: dt.datetime | None


def take(
    lanes: Lanes, *, slots: int, requests_per_minute: int, is_interactive: bool, now: dt.datetime
) -> tuple[dt.datetime, Lanes]:
    """Takes consecutive slots. Returns the time of the first one, and the lanes afterwards.

    An interactive edit takes the lane that is free first; background work keeps to its own.
    """
    interactive, background = max(lanes.interactive or now, now), max(lanes.background or now, now)
    if is_interactive and interactive <= background:
        step = dt.timedelta(seconds=slots / (requests_per_minute / 60 * INTERACTIVE_SHARE))
        return interactive, Lanes(interactive + step, background)
    step = dt.timedelta(seconds=slots / background_per_second(requests_per_minute))
    return background, Lanes(interactive, background + step)


def background_per_second(requests_per_minute: int) -> float:
    return requests_per_minute / 60 * (1 - INTERACTIVE_SHARE)
