"""Replaces prefixes and words with the values that begin with them, if there are few.

The runs with one value are a range of an index that is ordered by time, which can be merged with other ranges. The runs
with a prefix are not, so they would be looked up one by one.
"""

from runsadmin import search
from runsadmin.models import Run, Thread
from runsadmin.models.run import COLUMNS_OF_NEWEST
from runsadmin.search import And, Equal, Exists, Field, Node, Not, Or, Prefix, Term, Word
from runsadmin.search.compiling import WORD_FIELDS, column_of
from runsadmin.search.fields import METADATA
from runsadmin.services.distinct_texts import DistinctTexts
from runsadmin.services.metadata_keys import Texts, pairs_with_prefix
from runsadmin.services.run_search.sources import ORDERED_COLUMNS

# The maximum number of values. Excluded values can be more, since all of their ranges are read side by side.
MAX_EXCLUDED = 20
MAX_READ = 3
# A word takes one lookup for each metadata key.
_MAX_KEYS = 100


def expanded(node: Node, *, negated: bool = False) -> Node:
    """A node that currently matches the same runs."""
    match node:
        case And(nodes):
            return search.all_of(expanded(each, negated=negated) for each in nodes)
        case Or(nodes):
            return search.any_of(expanded(each, negated=negated) for each in nodes)
        case Not(excluded):
            return Not(expanded(excluded, negated=not negated))
        case Word(text):
            terms = _of_word(text, negated=negated)
        case Term(field, Prefix(text)):
            terms = _of_prefix(field, text, negated=negated)
        case Term(field, Exists()) if column_of(field) in ORDERED_COLUMNS:
            terms = _of_prefix(field, "", negated=negated)
        case _:
            return node
    return search.any_of(terms) if terms else node


def _of_prefix(field: Field, text: str, *, negated: bool) -> list[Term]:
    """The terms that together match the runs with a value that begins with this text."""
    limit = _limit(field, negated=negated)
    found = _texts(field, text).first(limit + 1, start="")  # Skip the empty text, which means no value.
    if len(found) > limit:
        return [Term(field, Prefix(text) if text else Exists())]
    return [Term(field, Equal(value)) for value in found]


def _limit(field: Field, *, negated: bool) -> int:
    """How many values may replace a prefix."""
    column = column_of(field)
    if field.name != METADATA and column not in ORDERED_COLUMNS:
        return 0
    if negated:
        return MAX_EXCLUDED
    return 1 if column in COLUMNS_OF_NEWEST else MAX_READ  # A prefix can be tested in the index of the newest runs.


def _texts(field: Field, text: str) -> DistinctTexts:
    if field.name == METADATA:
        return Texts(text, field.key).distinct
    if field.name == "thread":
        return DistinctTexts(Thread._meta.db_table, "upstream_id", text)
    column = column_of(field)
    where = "NOT (error_code = '') AND" if column == "error_code" else ""  # The index has this condition.
    return DistinctTexts(Run._meta.db_table, column, text, where)


def _of_word(text: str, *, negated: bool) -> list[Term]:
    """The terms that together match the same runs as a word. Empty if there are too many keys or pairs."""
    keys = Texts().first(_MAX_KEYS + 1)
    limit = MAX_EXCLUDED if negated else MAX_READ
    pairs = pairs_with_prefix(text, keys, limit) if len(keys) <= _MAX_KEYS else None
    if pairs is None:
        return []
    of_pairs = [Term(Field(METADATA, key), Equal(value)) for key, value in pairs]
    return of_pairs + [term for name in WORD_FIELDS for term in _of_prefix(Field(name), text, negated=negated)]
