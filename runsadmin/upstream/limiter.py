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
    if person and people <= work:
        step = dt.timedelta(seconds=places / (requests_per_minute / 60 * PEOPLE_SHARE))
        return people, Lanes(people + step, work)
    step = dt.timedelta(seconds=places / work_per_second(requests_per_minute))
    return work, Lanes(people, work + step)


def work_per_second(requests_per_minute: int) -> float:
    return requests_per_minute / 60 * (1 - PEOPLE_SHARE)
