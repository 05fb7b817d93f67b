"""Replaces prefixes and words with the values that begin with them, if there are few.

The runs with one value are a range of an index that is ordered by time, which can be merged with other ranges. The runs
with a prefix are not, so they would be looked up one by one.
"""

from functools import cached_property

from runsadmin import search
from runsadmin.models.run import COLUMNS_OF_NEWEST
from runsadmin.search import And, Equal, Exists, Field, Node, Not, Or, Prefix, Term, Word
from runsadmin.search.compiling import WORD_FIELDS, column_of
from runsadmin.search.fields import METADATA
from runsadmin.services.field_texts import first_texts
from runsadmin.services.metadata_keys import Texts, pairs_with_prefix
from runsadmin.services.run_search.sources import ORDERED_COLUMNS

# How many values may replace a prefix: more if it is excluded, since all of their ranges are then read side by side.
MAX_EXCLUDED = 20
MAX_READ = 3
# A word takes one lookup for each metadata key.
_MAX_KEYS = 100


def expanded(node: Node) -> Node:
    """A node that currently matches the same runs."""
    return _Expander().expanded(node)


class _Expander:
    @cached_property
    def keys(self) -> list[str]:
        """The metadata keys, listed once for all words of a search."""
        return Texts().first(_MAX_KEYS + 1)

    def expanded(self, node: Node, *, negated: bool = False) -> Node:
        match node:
            case And(nodes):
                return search.all_of(self.expanded(each, negated=negated) for each in nodes)
            case Or(nodes):
                return search.any_of(self.expanded(each, negated=negated) for each in nodes)
            case Not(excluded):
                return Not(self.expanded(excluded, negated=not negated))
            case Word(text):
                terms = self._of_word(text, negated=negated)
            case Term(field, Prefix(text)):
                terms = _of_prefix(field, text, negated=negated)
            case Term(field, Exists()) if column_of(field) in ORDERED_COLUMNS:
                terms = _of_prefix(field, "", negated=negated)
            case _:
                return node
        return search.any_of(terms) if terms else node

    def _of_word(self, text: str, *, negated: bool) -> list[Term]:
        """The terms that together match the same runs. Empty if too many keys or pairs are possible, or none."""
        if len(self.keys) > _MAX_KEYS:
            return []
        limit = MAX_EXCLUDED if negated else MAX_READ
        pairs = pairs_with_prefix(text, self.keys, limit + 1)
        if len(pairs) > limit:
            return []
        of_pairs = [Term(Field(METADATA, key), Equal(value)) for key, value in pairs]
        return of_pairs + [term for name in WORD_FIELDS for term in _of_prefix(Field(name), text, negated=negated)]


def _of_prefix(field: Field, text: str, *, negated: bool) -> list[Term]:
    """The terms that together match the runs with a value that begins with this text."""
    limit = _limit(field, negated=negated)
    found = first_texts(field, text, limit + 1)
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
    # A prefix that the index of the newest runs can test is only worth replacing with a single value.
    return 1 if column in COLUMNS_OF_NEWEST else MAX_READ
