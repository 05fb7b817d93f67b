"""The data of a fictional team: months of realistic runs.

Everything except the times depends only on the seed. The newest runs were created shortly before `now`.
"""

from dataclasses import dataclass
from random import Random

from sandbox.identifiers import seeded_id
from sandbox.messages import Json
from sandbox.store import Store

HOUR = 3600
DAY = 24 * HOUR
DAYS = 150  # How far back the runs go.
LIFETIME = 600  # Seconds after which a run expires.
MANY = 270  # Runs in the first thread.

PEOPLE = ("mira", "jonas", "tove", "emeka", "yuki", "lena", "ravi", "noor", "pablo", "ines")
TEAMS = ("support", "search", "billing", "platform", "legal", "growth", "data")
CUSTOMERS = (
    "Hafenblick Coffee",
    "Quill & Daughters",
    "Nordwind Logistik, GmbH",
    "Café Änderung",
    'The "Blue Door" Clinic',
    "Ink'n'Paper",
    "北極星印刷",
    "مكتبة الميناء",
    "Lumen 🔆 Yoga",
)


INVOICE: Json = {
    "type": "json_schema",
    "json_schema": {
        "name": "invoice",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "total": {"type": "number"}},
            "required": ["number", "total"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True)
class Assistant:
    name: str
    model: str
    instructions: str | None
    tools: tuple[str, ...] = ()
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    max_completion_tokens: int | None = None
    response_format: str | Json = "auto"
    share: int = 1  # Its relative share of the runs.


ASSISTANTS = (
    Assistant(
        "triage",
        "gpt-4o-mini",
        "You sort incoming support tickets by urgency and product. Answer with the category and one sentence why.",
        tools=("look_up_order", "open_ticket"),
        temperature=0.2,
        share=8,
    ),
    Assistant(
        "analyst",
        "gpt-4o",
        "You are a data analyst. When asked a question, write and run Python code to answer it.",
        tools=("code_interpreter",),
        share=5,
    ),
    Assistant(
        "contracts",
        "gpt-4.1",
        "You read contracts and answer questions about deadlines and liabilities. Quote the clause you rely on.",
        tools=("file_search",),
        temperature=0.0,
        max_completion_tokens=2000,
        share=3,
    ),
    Assistant(
        "release notes",
        "gpt-4.1-mini",
        "Write release notes from merged pull requests.\n\n- Group them by area.\n- Leave out what users cannot see.",
        temperature=0.7,
        top_p=0.9,
        share=3,
    ),
    Assistant(
        "incident scribe",
        "o3-mini",
        "Keep the timeline of an incident and draft the review. Times are UTC.",
        tools=("open_ticket",),
        temperature=None,
        top_p=None,
        share=2,
    ),
    Assistant(
        "extractor",
        "gpt-4o-2024-08-06",
        "Extract the invoice's number, date, currency and total.",
        max_completion_tokens=1024,
        response_format=INVOICE,
        share=3,
    ),
    Assistant("old helper", "gpt-4-turbo", None, tools=("code_interpreter", "file_search"), share=1),
)

FUNCTIONS: dict[str, Json] = {
    "look_up_order": {
        "name": "look_up_order",
        "description": "Finds an order by its number.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "with_items": {"type": "boolean"}},
            "required": ["number"],
        },
        "strict": False,
    },
    "open_ticket": {
        "name": "open_ticket",
        "description": "Opens a ticket for a person to look at.",
        "parameters": {
            "type": "object",
            "properties": {"title": {"type": "string"}, "urgency": {"enum": ["low", "high"]}},
            "required": ["title", "urgency"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ARGUMENTS = {
    "look_up_order": '{"number": "A-20481", "with_items": true}',
    "open_ticket": '{"title": "Invoice shows the wrong currency", "urgency": "high"}',
}

END_STATUSES = {"completed": 80, "failed": 8, "incomplete": 4, "expired": 4, "cancelled": 4}
# The newest runs are still active.
ACTIVE_STATUSES = (
    "queued",
    "in_progress",
    "requires_action",
    "in_progress",
    "cancelling",
    "queued",
    "requires_action",
    "in_progress",
    "in_progress",
    "requires_action",
)
ERRORS = (
    (
        "rate_limit_exceeded",
        "Rate limit reached on tokens per min (TPM): limit 30000, used 29411. Please try again in 6s.",
    ),
    ("rate_limit_exceeded", "You exceeded your current quota, please check your plan and billing details."),
    ("server_error", "Sorry, something went wrong."),
    ("server_error", "The server had an error while processing your request. Sorry about that!"),
    ("invalid_prompt", "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
    ("tool_user_error", "Tool open_ticket answered with status 403: the service account may not write to this queue."),
)

# Values that break code that is careless with quotes, spreadsheets, markup or text direction.
ODD_VALUES = (
    'said "ship it", twice',
    "one, two; three\tfour",
    "first line\nsecond line",
    "<script>alert('hello')</script>",
    "=cmd()",
    "=cmd|' /C calc'!A0",
    "+1 (0) 555 0100",
    "@SUM(A1:A9)",
    "🚀 shipped 👩‍👩‍👧 after review",
    "مراجعة الطلب رقم ٤٢",
    "בדיקה לפני פרסום",
    "Zoë’s naïve façade",
    "100%_sure\\maybe",
    "0012",
    "null",
    "",
    "  padded  ",
    "{{ 7 * 7 }} ${HOME}",
    "'; DROP TABLE runs; --",
    "https://wiki.example/runbooks?q=a&b=c#d",
)
LONG_NOTE = "The customer wrote again and asked for the whole history of the case; here is what we know so far. "


def seed_store(store: Store, *, threads: int, runs: int, seed: int, now: int) -> Json:
    """Adds the threads and runs that do not exist yet. Returns how many of each it added."""
    all_threads, all_runs = team(threads=threads, runs=runs, seed=seed, now=now)
    new_threads = [thread for thread in all_threads if thread["id"] not in store.threads]
    new_runs = [run for run in all_runs if run["id"] not in store.runs]
    store.put(threads=new_threads, runs=new_runs)
    return {"threads": len(new_threads), "runs": len(new_runs)}


def team(*, threads: int, runs: int, seed: int, now: int) -> tuple[list[Json], list[Json]]:
    """The threads, and the runs from oldest to newest."""
    random = Random(seed)
    assistant_ids = [seeded_id(random, "asst") for _ in ASSISTANTS]
    thread_ids = [seeded_id(random, "thread") for _ in range(threads)]
    if not thread_ids:
        return [], []

    plan = sorted((random_time(random, now), thread_id) for thread_id in assign_threads(random, runs, thread_ids))
    active = ACTIVE_STATUSES[: len(plan) // 4]
    all_runs = []
    for age, (created_at, thread_id) in zip(range(len(plan) - 1, -1, -1), plan, strict=True):
        [number] = random.choices(range(len(ASSISTANTS)), [assistant.share for assistant in ASSISTANTS])
        [status] = random.choices(list(END_STATUSES), list(END_STATUSES.values()))
        if age < len(active):
            status, created_at = active[age], now - 4 - 7 * age
        run = new_run(random, ASSISTANTS[number], status, created_at)
        run |= {"thread_id": thread_id, "assistant_id": assistant_ids[number]}
        if age > 0.95 * len(plan):  # The oldest runs were created before this field existed.
            del run["parallel_tool_calls"]
        all_runs.append(run)

    began = {run["thread_id"]: run["created_at"] for run in reversed(all_runs)}
    return [new_thread(random, thread_id, began.get(thread_id, now)) for thread_id in thread_ids], all_runs


def assign_threads(random: Random, runs: int, thread_ids: list[str]) -> list[str]:
    """Assigns a thread to each run: the first thread gets very many, and the others differ in size."""
    first, *others = thread_ids
    many = min(runs, MANY) if others else runs
    weights = [1 / (place + 5) for place in range(len(others))]
    return [first] * many + random.choices(others, weights, k=runs - many) if others else [first] * runs


def random_time(random: Random, now: int) -> int:
    """A time in the last months, mostly recent and in working hours."""
    midnight = now - now % DAY - DAY * int(random.triangular(0, DAYS, 0))
    second = midnight + int(3600 * min(23.9, max(0.0, random.gauss(12.5, 3.2))))
    return second if second < now - HOUR else second - DAY


def new_thread(random: Random, thread_id: str, first_run_at: int) -> Json:
    return {
        "id": thread_id,
        "object": "thread",
        "created_at": first_run_at - random.randint(1, 300),
        "metadata": {"channel": random.choice(("mail", "chat", "api"))} if random.random() < 0.5 else {},
        "tool_resources": {},
    }


def new_run(random: Random, assistant: Assistant, status: str, created_at: int) -> Json:
    run: Json = {
        "id": seeded_id(random, "run"),
        "object": "thread.run",
        "created_at": created_at,
        "thread_id": "",
        "assistant_id": "",
        "status": status,
        "required_action": None,
        "last_error": None,
        "expires_at": None,
        "started_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "incomplete_details": None,
        "model": assistant.model,
        "instructions": assistant.instructions,
        "tools": [tool(name) for name in assistant.tools],
        "metadata": metadata(random),
        "usage": None,
        "temperature": assistant.temperature,
        "top_p": assistant.top_p,
        "max_prompt_tokens": random.choice((None, None, None, 8000, 20000)),
        "max_completion_tokens": assistant.max_completion_tokens,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": assistant.response_format,
    }
    if random.random() < 0.15:
        run["truncation_strategy"] = {"type": "last_messages", "last_messages": random.choice((5, 10, 20))}
    if "open_ticket" in assistant.tools and random.random() < 0.2:
        run["tool_choice"] = {"type": "function", "function": {"name": "open_ticket"}}
    if "code_interpreter" in assistant.tools and random.random() < 0.6:
        files = [seeded_id(random, "file") for _ in range(random.randint(1, 3))]
        run["tool_resources"] = {"code_interpreter": {"file_ids": files}}
    elif "file_search" in assistant.tools:
        run["tool_resources"] = {"file_search": {"vector_store_ids": [seeded_id(random, "vs")]}}
    return run | state(random, assistant, status, created_at)


def state(random: Random, assistant: Assistant, status: str, created_at: int) -> Json:
    """The fields that depend on the status: the times and the outcome."""
    started_at = created_at + random.choice((0, 0, 1, 1, 2, 4))
    ended_at = started_at + 1 + min(LIFETIME - 10, int(random.lognormvariate(2.4, 1.0)))
    expires_at = created_at + LIFETIME
    match status:
        case "queued":
            return {"expires_at": expires_at}
        case "in_progress" | "cancelling":
            return {"expires_at": expires_at, "started_at": started_at}
        case "requires_action":  # It waits for tool outputs. The sandbox accepts none, so it expires later.
            names = [name for name in assistant.tools if name in FUNCTIONS] or ["look_up_order"]
            action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls(random, names)}}
            return {
                "expires_at": created_at + DAY,
                "started_at": started_at,
                "required_action": action,
                "tools": [tool(name) for name in names],
            }
        case "completed":
            return {"started_at": started_at, "completed_at": ended_at, "usage": usage(random)}
        case "incomplete":
            reason = random.choice(("max_completion_tokens", "max_completion_tokens", "max_prompt_tokens"))
            return {
                "started_at": started_at,
                "completed_at": ended_at,
                "incomplete_details": {"reason": reason},
                "usage": usage(random),
                reason: random.choice((256, 512, 1024)),
            }
        case "failed":
            code, message = random.choice(ERRORS)
            return {
                "started_at": started_at,
                "failed_at": ended_at,
                "last_error": {"code": code, "message": message},
                "usage": usage(random) if code == "tool_user_error" else usage(random, nothing=True),
            }
        case "expired":
            return {"expires_at": expires_at, "started_at": started_at, "usage": usage(random)}
        case _:  # cancelled
            waited = random.random() < 0.2  # It was cancelled before it started.
            return {
                "started_at": None if waited else started_at,
                "cancelled_at": ended_at,
                "usage": usage(random, nothing=waited),
            }


def usage(random: Random, *, nothing: bool = False) -> Json:
    prompt = 0 if nothing else int(random.lognormvariate(7.3, 0.9))
    completion = 0 if nothing else int(random.lognormvariate(5.3, 0.8))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def tool(name: str) -> Json:
    return {"type": "function", "function": FUNCTIONS[name]} if name in FUNCTIONS else {"type": name}


def calls(random: Random, names: list[str]) -> list[Json]:
    return [
        {
            "id": seeded_id(random, "call"),
            "type": "function",
            "function": {"name": name, "arguments": ARGUMENTS[name]},
        }
        for name in names
    ]


def metadata(random: Random) -> dict[str, str]:
    """Some runs have none, most have a few pairs, and some reach the limits."""
    kind = random.random()
    if kind < 0.2:
        return {}
    usual = {
        "team": random.choice(TEAMS),
        "env": random.choice(("prod", "prod", "prod", "staging", "dev")),
        "ticket": f"OPS-{random.randint(100, 4200)}",
        "customer": random.choice(CUSTOMERS),
        "reviewed_by": random.choice(PEOPLE),
        "cost center": random.choice(("R&D", "4711", "Sales, EMEA")),
        "prompt_version": f"v{random.randint(1, 9)}.{random.randint(0, 12)}",
        "language": random.choice(("en", "de", "ar", "ja", "pt-BR")),
        "priority": random.choice(("low", "normal", "high")),
        "verdict": random.choice(("good", "good", "wrong tone", "made up a fact", "👍")),
    }
    likely = (0.9, 0.8, 0.5, 0.4, 0.4, 0.2, 0.4, 0.2, 0.2, 0.1)
    pairs = {key: value for (key, value), chance in zip(usual.items(), likely, strict=True) if random.random() < chance}
    if kind < 0.3:
        pairs["note"] = random.choice(ODD_VALUES)
    elif kind < 0.32:
        pairs["note"] = (LONG_NOTE * 6)[:512]
        pairs["why this customer gets an answer by hand (see the wiki) & by whom"[:64]] = random.choice(PEOPLE)
    elif kind < 0.35:
        pairs = usual | {f"score_{number}": f"{random.random():.3f}" for number in range(16 - len(usual))}
    return pairs
