"""Generated threads with runs: deterministic, shaped like real runs of about 1.5 kB, with tags as skewed as real ones.

`Dataset(runs)` gives the same runs in every process. Each thread has random numbers of its own, so its runs do not
depend on how many were read before.
"""

import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count
from typing import Any

import orjson

SEED = 20_261_126
PAGE_SIZE = 100
BEGINS = dt.datetime(2024, 7, 1, tzinfo=dt.UTC)
ENDS = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)

ASSISTANTS = 40
CUSTOMERS = 20_000
# Values of `incident`, each in exactly ten runs.
INCIDENTS = 20
RUNS_PER_INCIDENT = 10


@dataclass(frozen=True)
class Weighted:
    """Values with their shares."""

    shares: dict[str, float]

    @cached_property
    def values(self) -> list[str]:
        return list(self.shares)

    @cached_property
    def _cumulative(self) -> list[float]:
        return list(accumulate(self.shares.values()))

    def choose(self, rng: random.Random) -> str:
        return rng.choices(self.values, cum_weights=self._cumulative)[0]


def _by_rank(values: list[str]) -> Weighted:
    """The second value is half as frequent as the first, and the third a third as frequent."""
    return Weighted({value: 1 / rank for rank, value in enumerate(values, 1)})


STATUSES = Weighted(
    {
        "completed": 0.88, "failed": 0.05, "expired": 0.025, "cancelled": 0.02, "incomplete": 0.015,
        "requires_action": 0.006, "in_progress": 0.003, "queued": 0.001,
    }
)  # fmt: skip
MODELS = Weighted(
    {
        "gpt-4o": 0.45, "gpt-4o-mini": 0.3, "gpt-4.1": 0.1, "gpt-4-turbo": 0.06, "o3-mini": 0.04, "gpt-4.1-mini": 0.03,
        "gpt-3.5-turbo": 0.015, "o1": 0.005,
    }
)  # fmt: skip
ERRORS = Weighted({"rate_limit_exceeded": 0.6, "server_error": 0.35, "invalid_prompt": 0.05})

ENVIRONMENTS = Weighted({"prod": 2 / 3, "staging": 0.25, "dev": 1 / 12 - 0.006, "canary": 0.006})
REGIONS = Weighted({"eu": 0.42, "us": 0.4, "apac": 0.18})
CELLS = Weighted({"us-1": 0.75, "us-2": 0.25})  # Only in the region us, so no run has both `us-1` and `eu`.
TEAMS = _by_rank([f"team-{number:02}" for number in range(30)])
PRIORITIES = Weighted({"normal": 0.8, "low": 0.15, "high": 0.05})
REVIEWS = Weighted({"pending": 0.5, "escalated": 0.5})
EXPERIMENTS = _by_rank([f"exp-{number}" for number in range(8)])
COST_CENTERS = _by_rank(["R&D", "Sales: EMEA", 'the "old" one', "Ops", "日本"])
# The share of the runs that have the key at all. `cell` is a share of the region us.
TEAM, CUSTOMER, REGION, CELL, PRIORITY = 0.95, 0.9, 0.98, 0.75, 0.75
EXPERIMENT, TICKET, REVIEW, COST_CENTER = 0.4, 0.3, 0.012, 0.1

# How many runs a thread has, and the share of such threads: most threads are short, most runs are on full pages.
THREAD_SIZES = Weighted({"2": 0.25, "8": 0.25, "30": 0.25, "100": 0.2, "400": 0.05})

TEXT = (
    "answer the question in one short paragraph and cite every document that was used never invent an order number "
    "ask for the missing details first use the tools before guessing keep a friendly tone reply in the language of the "
    "customer escalate refunds above the limit to a person summarize long threads before answering"
)
WORDS = TEXT.split()


@dataclass(frozen=True)
class Assistant:
    id: str
    instructions: str
    tools: list[dict[str, Any]]
    temperature: float

    @classmethod
    def numbered(cls, number: int) -> "Assistant":
        rng = random.Random(f"{SEED} assistant {number}")
        return cls(
            id=f"asst_{rng.getrandbits(96):024x}",
            instructions=" ".join(rng.choices(WORDS, k=rng.randint(40, 110))).capitalize() + ".",
            tools=[{"type": "file_search"}, *(_function(rng) for _ in range(rng.randint(0, 2)))],
            temperature=rng.choice([0.0, 0.2, 0.7, 1.0]),
        )


def _function(rng: random.Random) -> dict[str, Any]:
    name = f"{rng.choice(['find', 'read', 'list'])}_{rng.choice(['order', 'invoice', 'customer'])}"
    parameters = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


ALL_ASSISTANTS = [Assistant.numbered(number) for number in range(ASSISTANTS)]
_ASSISTANT = _by_rank([str(number) for number in range(ASSISTANTS)])


@dataclass(frozen=True)
class GeneratedThread:
    """`pages` has its runs as a server lists them: newest first, as JSON."""

    id: str
    pages: list[bytes]


@dataclass(frozen=True)
class Dataset:
    """With `changed`, one in a hundred runs has another priority."""

    runs: int
    changed: bool = False

    def __post_init__(self) -> None:
        if self.runs < 1000 or self.runs % 10:
            raise ValueError("The number of runs must be a multiple of 10, and at least 1,000.")

    def threads(self) -> Iterator[GeneratedThread]:
        sizes = random.Random(SEED)
        first = 0
        for number in count():
            if first >= self.runs:
                return
            size = min(int(THREAD_SIZES.choose(sizes)), self.runs - first)
            yield self._thread(number, range(first, first + size))
            first += size

    def _thread(self, number: int, indexes: range) -> GeneratedThread:
        rng = random.Random(f"{SEED} thread {number}")
        id, assistant = f"thread_{rng.getrandbits(96):024x}", ALL_ASSISTANTS[int(_ASSISTANT.choose(rng))]
        latest = int(ENDS.timestamp()) - 1
        created_at = rng.randint(int(BEGINS.timestamp()), latest)
        runs = []
        for index in indexes:
            runs.append(self._run(rng, index, id, assistant, created_at))
            created_at = min(created_at + 1 + int(rng.expovariate(1 / 3600)), latest)
        runs.reverse()
        pages = [runs[start : start + PAGE_SIZE] for start in range(0, len(runs), PAGE_SIZE)]
        return GeneratedThread(id, [_page(page, has_more=page is not pages[-1]) for page in pages])

    def _run(
        self, rng: random.Random, index: int, thread_id: str, assistant: Assistant, created_at: int
    ) -> dict[str, Any]:
        id = f"run_{rng.getrandbits(96):024x}"
        status = STATUSES.choose(rng)
        has_started, has_ended = status != "queued", status not in ("queued", "in_progress", "requires_action")
        ended_at = created_at + 1 + int(rng.lognormvariate(2.2, 1.1))
        prompt, completion = int(rng.lognormvariate(7.5, 1)), int(rng.lognormvariate(5.5, 1))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        error = {"code": ERRORS.choose(rng), "message": "The request could not be completed. Try again later."}
        metadata = self._metadata(rng, index)
        if self.changed and index % 100 == 37:
            metadata["priority"] = "urgent"
        return {
            "id": id, "object": "thread.run", "created_at": created_at, "thread_id": thread_id,
            "assistant_id": assistant.id, "status": status, "required_action": None,
            "last_error": error if status == "failed" else None,
            "expires_at": None if has_ended else created_at + 600,
            "started_at": created_at + 1 if has_started else None,
            "cancelled_at": ended_at if status == "cancelled" else None,
            "failed_at": ended_at if status == "failed" else None,
            "completed_at": ended_at if status in ("completed", "incomplete") else None,
            "incomplete_details": {"reason": "max_completion_tokens"} if status == "incomplete" else None,
            "model": MODELS.choose(rng), "instructions": assistant.instructions, "tools": assistant.tools,
            "metadata": metadata, "usage": usage if has_ended else None,
            "temperature": assistant.temperature, "top_p": 1.0, "max_prompt_tokens": None,
            "max_completion_tokens": None, "truncation_strategy": {"type": "auto", "last_messages": None},
            "tool_choice": "auto", "parallel_tool_calls": True, "response_format": "auto",
        }  # fmt: skip

    def _metadata(self, rng: random.Random, index: int) -> dict[str, str]:
        region = REGIONS.choose(rng)
        # Every second run takes the next customer, so that each one occurs. In other runs, some customers are frequent.
        customer = index // 2 % CUSTOMERS if index % 2 else int(CUSTOMERS * rng.random() ** 3)
        cell = CELLS.choose(rng) if rng.random() < CELL else None
        tags = {
            "env": ENVIRONMENTS.choose(rng),
            "team": TEAMS.choose(rng) if rng.random() < TEAM else None,
            "customer": f"c-{customer:05}" if rng.random() < CUSTOMER or index % 2 else None,
            "region": region if rng.random() < REGION else None,
            "cell": cell if region == "us" else None,
            "priority": PRIORITIES.choose(rng) if rng.random() < PRIORITY else None,
            "experiment": EXPERIMENTS.choose(rng) if rng.random() < EXPERIMENT else None,
            "ticket": f"OPS-{rng.randrange(10**6)}" if rng.random() < TICKET else None,
            "review": REVIEWS.choose(rng) if rng.random() < REVIEW else None,
            "cost center": COST_CENTERS.choose(rng) if rng.random() < COST_CENTER else None,
            "incident": self._incidents.get(index),
        }
        return {key: value for key, value in tags.items() if value is not None}

    @cached_property
    def _incidents(self) -> dict[int, str]:
        """Maps the index of a run to its incident. The runs of each incident are spread over the whole period."""
        step = self.runs // RUNS_PER_INCIDENT
        return {
            (number * 97) % step + step * repeat: incident(number)
            for number in range(INCIDENTS)
            for repeat in range(RUNS_PER_INCIDENT)
        }


def incident(number: int) -> str:
    return f"INC-{100 + number}"


def _page(runs: list[dict[str, Any]], *, has_more: bool) -> bytes:
    return orjson.dumps(
        {"object": "list", "data": runs, "first_id": runs[0]["id"], "last_id": runs[-1]["id"], "has_more": has_more}
    )
