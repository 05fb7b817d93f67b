"""The searches that are timed: one of every shape, and generated ones."""

import random
from dataclasses import dataclass
from typing import Literal

from bench import data

IN_TEN_RUNS = data.incident(7)


@dataclass(frozen=True)
class Shape:
    """A search, and how many milliseconds of database time a page of 100 may take on SQLite and on PostgreSQL.

    `deep` starts the page after a quarter of all runs. `tokens` sorts by the number of tokens, largest first.
    """

    name: str
    text: str
    budget: tuple[int, int] = (200, 200)
    page: Literal["first", "deep", "tokens"] = "first"


PAGE, NOTHING = (10, 15), (1000, 1000)
COMMON, RARE, WORD = "metadata.env:prod", "metadata.env:canary", "c-12345"
DATES = "created:>=2025-01-01 created:<2026-01-01"

SHAPES = (
    Shape("all runs", "", PAGE),
    Shape("value in ten runs", f"metadata.incident:{IN_TEN_RUNS}", PAGE),
    Shape("value in 0.6%", RARE, PAGE),
    Shape("value in 67%", COMMON, PAGE),
    Shape("value in 67%, a quarter of the runs deep", COMMON, PAGE, "deep"),
    Shape("one of 20,000 values", "metadata.customer:c-12345"),
    Shape("OR: values of a key", "metadata.env:(prod OR canary)"),
    Shape("OR: rare values of a key", f"metadata.env:canary OR metadata.incident:{IN_TEN_RUNS}"),
    Shape("OR: fields", f"status:failed OR {RARE}"),
    Shape("NOT a common value", f"-{COMMON}"),
    Shape("NOT a rare value", f"-{RARE}"),
    Shape("NOT, beside a common value", f"{COMMON} -status:completed"),
    Shape("key exists", "metadata.incident:*"),
    Shape("key is missing, few have it", "-metadata.incident:*"),
    Shape("key is missing, nearly all have it", "-metadata.region:*"),
    Shape("two pairs: common with ten runs", f"{COMMON} metadata.incident:{IN_TEN_RUNS}"),
    Shape("two pairs: common with rare", f"{COMMON} metadata.review:pending"),
    Shape("two pairs: rare with rare", f"{RARE} metadata.review:pending"),
    Shape("two pairs: common with common", f"{COMMON} metadata.region:eu"),
    Shape("two pairs: common ones that never meet", "metadata.region:eu metadata.cell:us-1", NOTHING),
    Shape("pairs, status, dates: common with rare", f"{COMMON} metadata.review:pending status:completed {DATES}"),
    Shape(
        "three pairs, status, dates: common ones",
        f"{COMMON} metadata.region:us metadata.cell:us-1 status:failed {DATES}",
    ),
    Shape(
        "three pairs, status, dates: rare ones",
        f"{RARE} metadata.review:pending metadata.region:eu status:failed {DATES}",
    ),
    Shape(
        "three pairs, status, dates: never meet",
        f"{COMMON} metadata.region:eu metadata.cell:us-1 status:completed {DATES}",
        NOTHING,
    ),
    Shape("sort by tokens", "", page="tokens"),
    Shape("sort by tokens, beside a common value", COMMON, page="tokens"),
    Shape("sort by tokens, beside a rare value", RARE, page="tokens"),
    Shape("status", "status:failed"),
    Shape("status and model", "status:failed model:o1"),
    Shape("statuses, NOT a key", "status:(failed OR expired) -metadata.team:*"),
    Shape("prefix of a model", "model:gpt-4.1*"),
    Shape("prefix of a value", "metadata.ticket:OPS-12*"),
    Shape("dates", DATES),
    Shape("a range of dates", "created:[2025-01-01 TO 2025-02-01]"),
    Shape("more tokens than most", "tokens:>20000"),
    Shape("more tokens than any", "tokens:>100000000", NOTHING),
    Shape("longer than most", "duration:>120s"),
    Shape("error, beside a common value", f"{COMMON} error:invalid_prompt"),
    Shape("free word: a customer", WORD),
    Shape("free word: no match", "zzzzzz", NOTHING),
    Shape("free words, quoted", '"cost" failed'),
    Shape("value that no run has", "metadata.env:nosuch", NOTHING),
    Shape("status that no run has", "status:nosuch", NOTHING),
    Shape("common value and a status that no run has", f"{COMMON} status:nosuch", NOTHING),
    Shape(
        "nested groups",
        "(metadata.env:canary OR (metadata.region:eu status:failed)) -(metadata.team:team-00 OR model:gpt-4o)",
    ),
)


# --- Generated searches

MAX_TERMS, MAX_DEPTH = 20, 4
PAIRS = {
    "env": data.ENVIRONMENTS.values,
    "team": data.TEAMS.values,
    "region": data.REGIONS.values,
    "cell": data.CELLS.values,
    "priority": data.PRIORITIES.values,
    "experiment": data.EXPERIMENTS.values,
    "review": data.REVIEWS.values,
    "cost center": data.COST_CENTERS.values,
    "incident": [data.incident(number) for number in range(data.INCIDENTS)],
    "customer": [f"c-{number:05}" for number in range(0, data.CUSTOMERS, 61)],
    "ticket": [f"OPS-{number}" for number in range(0, 10**6, 9973)],
    "nosuch": ["nosuch"],
}


def generated(count: int, seed: int = data.SEED) -> list[str]:
    """Searches of the whole grammar with up to 20 terms and groups of depth 4. Most have one to four terms."""
    rng = random.Random(f"{seed} searches")
    return [_search(rng, min(1 + int(rng.expovariate(1 / 3)), MAX_TERMS), MAX_DEPTH) for _ in range(count)]


def _search(rng: random.Random, terms: int, depth: int) -> str:
    if terms == 1:
        return ("-" if rng.random() < 0.2 else "") + _term(rng)
    parts = []
    while terms:
        size = rng.randint(1, terms) if depth and rng.random() < 0.3 else 1
        parts.append(_search(rng, 1, 0) if size == 1 else _group(rng, size, depth - 1))
        terms -= size
    return (" OR " if rng.random() < 0.3 else " ").join(parts)


def _group(rng: random.Random, terms: int, depth: int) -> str:
    return f"{'-' if rng.random() < 0.2 else ''}({_search(rng, terms, depth)})"


def _term(rng: random.Random) -> str:
    kinds = {_pair: 10, _field: 5, _compared: 5, _word: 1}
    return rng.choices(list(kinds), list(kinds.values()))[0](rng)


def _pair(rng: random.Random) -> str:
    key = rng.choice(list(PAIRS))
    values = rng.choices(PAIRS[key], k=2)
    tests = {_quoted(values[0]): 6, "*": 1, f"({_quoted(values[0])} OR {_quoted(values[1])})": 1}
    if '"' not in _quoted(values[0]):
        tests[f"{values[0][:4]}*"] = 1
    return f"metadata.{_quoted(key)}:{rng.choices(list(tests), list(tests.values()))[0]}"


def _quoted(text: str) -> str:
    plain = text.replace("-", "").isalnum() and text.isascii()
    return text if plain else '"' + text.replace('"', r"\"") + '"'


def _field(rng: random.Random) -> str:
    assistant = rng.choice(data.ALL_ASSISTANTS).id
    return rng.choice(
        [
            f"status:{rng.choice(data.STATUSES.values)}",
            f"status:({rng.choice(data.STATUSES.values)} OR {rng.choice(data.STATUSES.values)})",
            f"model:{rng.choice(data.MODELS.values)}",
            f"model:{rng.choice(data.MODELS.values)[:4]}*",
            f"error:{rng.choice(data.ERRORS.values)}",
            f"assistant:{assistant}",
            f"assistant:{assistant[:7]}*",
            f"id:run_{rng.getrandbits(12):03x}*",
            f"thread:thread_{rng.getrandbits(8):02x}*",
            "error:*",
        ]
    )


def _compared(rng: random.Random) -> str:
    sign = rng.choice([">", ">=", "<", "<="])
    day = f"{rng.choice([2024, 2025, 2026])}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return rng.choice(
        [
            f"created:{sign}{day}",
            f"created:{day}",
            f"created:[2025-{rng.randint(1, 6):02}-01 TO 2025-{rng.randint(7, 12):02}-01]",
            f"created:{sign}-{rng.choice([7, 90, 365, 700])}d",
            f"tokens:{sign}{rng.choice([10, 500, 5000, 50_000, 10**7])}",
            f"duration:{sign}{rng.choice(['1s', '60s', '10m', '2h'])}",
        ]
    )


def _word(rng: random.Random) -> str:
    return rng.choice(["gpt-4o", "c-000", "OPS-12", "prod", "run_0", "asst_", "nosuch", '"the \\"old"'])
