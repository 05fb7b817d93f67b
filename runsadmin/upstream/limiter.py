"""The pace of a connection: where the next free places are. Pure arithmetic; the places live in the database."""

import datetime as dt
from dataclasses import dataclass

# Of a connection's requests a minute, this share is kept for people's single edits.
PEOPLE_SHARE = 0.1


@dataclass(frozen=True)
class Lanes:
    """When each lane has its next free place. None: now."""

    people: dt.datetime | None
    work: dt.datetime | None


def take(
    lanes: Lanes, *, places: int, requests_per_minute: int, person: bool, now: dt.datetime
) -> tuple[dt.datetime, Lanes]:
    """Takes `places` neighbouring places. Returns when the first one is, and the lanes afterwards.

    A person's edit takes whichever lane is free sooner; work keeps to its own.
    """
    people, work = max(lanes.people or now, now), max(lanes.work or now, now)
    per_second = requests_per_minute / 60
    if person and people <= work:
        step = dt.timedelta(seconds=places / (per_second * PEOPLE_SHARE))
        return people, Lanes(people + step, work)
    step = dt.timedelta(seconds=places / (per_second * (1 - PEOPLE_SHARE)))
    return work, Lanes(people, work + step)
