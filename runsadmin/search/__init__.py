"""The search language: parses text into a tree, which it compiles into a condition. docs/search.md describes it."""

from runsadmin.search.compiling import condition
from runsadmin.search.local_times import has_local_times
from runsadmin.search.nodes import (
    And,
    Between,
    Compare,
    Equal,
    Exists,
    Field,
    Node,
    Not,
    Or,
    Prefix,
    Term,
    Test,
    Word,
    all_of,
    any_of,
    equal,
)
from runsadmin.search.parsing import MAX_LENGTH, parse, term
from runsadmin.search.values import time_zone
