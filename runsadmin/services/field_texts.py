"""The texts that the runs have in a field of the search language."""

from runsadmin.models import Run, Thread
from runsadmin.search import Field
from runsadmin.search.compiling import column_of
from runsadmin.search.fields import METADATA
from runsadmin.services.distinct_texts import DistinctTexts
from runsadmin.services.metadata_keys import Texts


def first_texts(field: Field, prefix: str, limit: int) -> list[str]:
    """The first texts that begin with `prefix`. An empty text is a value only in metadata; elsewhere it is left out."""
    return distinct_texts(field, prefix).first(limit, start=None if field.name == METADATA else "")


def distinct_texts(field: Field, prefix: str = "") -> DistinctTexts:
    """The texts of an indexed text field that begin with `prefix`, including an empty text."""
    if field.name == METADATA:
        return Texts(prefix, field.key).distinct
    if field.name == "thread":
        return DistinctTexts(Thread._meta.db_table, "upstream_id", prefix)
    column = column_of(field)
    where = "NOT (error_code = '') AND" if column == "error_code" else ""  # The index has this condition.
    return DistinctTexts(Run._meta.db_table, column, prefix, where)
