"""The texts that the runs have in a field of the search language."""

from runsadmin.models import Run, Thread
from runsadmin.search import Field
from runsadmin.search.compiling import column_of
from runsadmin.search.fields import METADATA
from runsadmin.services.distinct_texts import DistinctTexts
from runsadmin.services.metadata_keys import Texts


def first_texts(field: Field, prefix: str, limit: int) -> list[str]:
    """The first texts that begin with `prefix`. The empty one is a value of metadata only."""
    return distinct_texts(field, prefix).first(limit, start=None if field.name == METADATA else "")


def distinct_texts(field: Field, prefix: str = "") -> DistinctTexts:
    """The texts of an indexed text field that begin with `prefix`, among them the empty one, which means no value."""
    if field.name == METADATA:
        return Texts(prefix, field.key).distinct
    if field.name == "thread":
        return DistinctTexts(Thread._meta.db_table, "upstream_id", prefix)
    column = column_of(field)
    where = "NOT (error_code = '') AND" if column == "error_code" else ""  # The condition of the index.
    return DistinctTexts(Run._meta.db_table, column, prefix, where)
