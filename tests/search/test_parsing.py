"""How text is parsed into trees, how trees are printed, and where errors are reported."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runsadmin import search
from runsadmin.errors import InvalidSearch
from runsadmin.search import (
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
)
from runsadmin.search.parsing import MAX_DEPTH, MAX_LENGTH, MAX_TERMS

a, b, c = Word("a"), Word("b"), Word("c")


def on(name: str, test: Test) -> Term:
    field, _, key = name.partition(".")
    return Term(Field(field, key if field == "metadata" else None), test)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a b", And((a, b))),
        ("a AND b c", And((a, b, c))),
        ("a OR b c", Or((a, And((b, c))))),
        ("a b OR c", Or((And((a, b)), c))),
        ("a OR b OR c", Or((a, b, c))),
        ("a (b c)", And((a, b, c))),
        ("(a OR b) c", And((Or((a, b)), c))),
        ("((a))", a),
        ("-a b", And((Not(a), b))),
        ("NOT a OR b", Or((Not(a), b))),
        ("-(a b)", Not(And((a, b)))),
        ("NOT NOT -a", Not(Not(Not(a)))),
        ("a*", a),
        ('"a b"', Word("a b")),
        ('"OR"', Word("OR")),
        ('a\n\t"-"', And((a, Word("-")))),
    ],
)
def test_operators_make_a_tree(text: str, node: Node) -> None:
    assert search.parse(text) == node


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("status:failed", on("status", Equal("failed"))),
        ("status:=failed", on("status", Equal("failed"))),
        ('model:"gpt 4"', on("model", Equal("gpt 4"))),
        ("model:ft:gpt-4o:x", on("model", Equal("ft:gpt-4o:x"))),
        ("model:gpt*", on("model", Prefix("gpt"))),
        ('model:"a*"*', on("model", Prefix("a*"))),
        ('model:"*"', on("model", Equal("*"))),
        ("metadata.a.b:*", on("metadata.a.b", Exists())),
        ('metadata.a:""*', on("metadata.a", Exists())),
        ('metadata.a:""', on("metadata.a", Equal(""))),
        (r'metadata."a \"b\" \\":x', on(r'metadata.a "b" \ '.strip(), Equal("x"))),
        ("metadata.😀:x", on("metadata.😀", Equal("x"))),
        ("metadata.a:-x", on("metadata.a", Equal("-x"))),
        ("tokens:>=5", on("tokens", Compare(">=", "5"))),
        ('metadata.a:<"5"', on("metadata.a", Compare("<", "5"))),
        ("created:>-7d", on("created", Compare(">", "-7d"))),
        ("created:[2026 TO *]", on("created", Between("2026", None))),
        ('metadata.a:["x y" TO z]', on("metadata.a", Between("x y", "z"))),
        ("id:(a OR -b*)", Or((on("id", Equal("a")), Not(on("id", Prefix("b")))))),
        ("-id:(a)", Not(on("id", Equal("a")))),
        ("tokens:(>5 AND <9 OR 1)", search.parse("(tokens:>5 tokens:<9) OR tokens:1")),
    ],
)
def test_fields_make_terms(text: str, node: Node) -> None:
    assert search.parse(text) == node


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_empty_search_has_no_tree(text: str) -> None:
    assert search.parse(text) is None


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a AND b", "a b"),
        ("a b OR NOT (c OR d)", "(a b) OR -(c OR d)"),
        ("status:(failed OR expired)", "status:failed OR status:expired"),
        ('metadata."a":"b c"*', 'metadata.a:"b c"*'),
        ('metadata."a:b":"c"', 'metadata."a:b":c'),
        ('tokens:>"5" metadata.n:["5" TO "7"]', 'tokens:>5 metadata.n:["5" TO "7"]'),
        ('"or" "-a" "a:b" "a*"', '"or" "-a" "a:b" "a*"'),
    ],
)
def test_trees_are_printed(text: str, printed: str) -> None:
    assert str(search.parse(text)) == printed


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("status:failed  color:red", 16, "there is no field 'color'. Did you mean metadata.color?"),
        ("Status:x", 1, "Did you mean status?"),
        ("metadta.env:x", 1, "Did you mean metadata.env?"),
        ("team.lead:x", 1, "Did you mean metadata.team.lead?"),
        ("metadata:x", 1, "expected metadata.KEY"),
        ("metadata.:x", 1, "a key is missing"),
        ("metadata.tea*:x", 1, "* is possible at the end"),
        ("a:b:c", 1, "text that has a colon needs quotes"),
        ("status:", 1, "a value must follow the colon directly"),
        ("status:)", 8, "expected a value"),
        ("status:OR", 8, "the word itself needs quotes"),
        ('status:""', 8, "expected -status:*"),
        ('status:"a"b', 8, "a space must follow the closing quote"),
        ('a"b', 1, "a quote must enclose the whole text"),
        ('x "a', 3, "this quote is not closed"),
        ('""', 1, "a word cannot be empty"),
        ("model:“a b”", 7, "expected straight quotes"),
        (r'model:"\d"', 7, r"\d has no meaning in quotes"),
        ("*", 1, "every run matches *"),
        ("*a", 1, "by its prefix only"),
        ('model:"a" *', 11, "every run matches *"),
        ("f(x)", 1, "text that has parentheses needs quotes"),
        ("model:f(x)", 7, "text that has parentheses needs quotes"),
        ("(a", 3, "not complete; expected )"),
        ("a)", 2, "this parenthesis is not opened"),
        ("(a)b", 3, "a space must follow the parenthesis"),
        ("()", 2, "expected a term"),
        ("a OR", 5, "not complete; expected a term"),
        ("OR a", 1, "nothing to apply to"),
        ("a AND OR b", 7, "nothing to apply to"),
        ("a Or b", 3, "operators are upper case"),
        ("a && b", 3, "operators are OR, AND, NOT and -"),
        ("+a", 1, "a word that begins like this needs quotes"),
        ("- a", 1, "must follow the minus directly"),
        ("status:(a b)", 11, "expected OR, AND or )"),
        ("status:(a OR model:b)", 14, "a group has values of one field"),
        ("tokens:> 5", 8, "a value must follow the sign directly"),
        ("metadata.a:>=<5", 12, "a value that begins like this needs quotes"),
        ("tokens:[1 2]", 11, "expected TO"),
        ("tokens:[1 TO 2", 15, "expected ]"),
        ("tokens:{1 TO 2}", 8, "a range is written"),
        ("tokens:[* TO *]", 9, "this range is open at both ends"),
        ("tokens:[2 TO 1]", 9, "this range is empty"),
        ("metadata.a:[b TO a]", 13, "this range is empty"),
        ("metadata.a:[1 TO b]", 13, "10 is less than 9"),
        ("tokens:5*", 8, "a number, and * is only for texts"),
        ("tokens:1.5", 8, "'1.5' is not a number"),
        ("tokens:-5", 8, "'-5' is not a number"),
        ("tokens:1234567890123456789", 8, "at most 18"),
        ("duration:60", 10, "expected a number with a unit"),
        ("duration:99999d", 10, "too long"),
        ("created:soon", 9, "'soon' is not a time"),
        ("created:2026-02-30", 9, "does not exist"),
        ("created:2026-01-01T12:00+25:00", 9, "does not exist"),
        ("created:>9999-12-31", 10, "out of range: 1900 to 2199"),
        ("created:now", 9, "expected >now, <now or a range"),
        ("created:>-99999999d", 10, "-99999999d is too long"),
        ("model:" + "x" * 513, 7, "its first 512 characters; this one has 513"),
        ("metadata." + "x" * 513 + ":a", 1, "its first 512 characters; this one has 513"),
        ("status:a\0", 9, "U+0000"),
        ("a \ud83d", 3, "lone surrogate"),
    ],
)
def test_error_names_position_and_expectation(text: str, position: int, why: str) -> None:
    with pytest.raises(InvalidSearch) as caught:
        search.parse(text)
    assert why in str(caught.value)
    assert str(caught.value).startswith(f"At character {position}: ")


@pytest.mark.parametrize(
    ("allowed", "too_much", "why"),
    [
        ("x" * 400 + " " * (MAX_LENGTH - 400), "x" * (MAX_LENGTH + 1), "at most 10,000 characters"),
        (" OR ".join(["a"] * MAX_TERMS), " ".join(["a"] * (MAX_TERMS + 1)), "at most 100 terms"),
        ("id:(" + " OR ".join("a" * MAX_TERMS) + ")", "id:(" + " OR ".join("a" * (MAX_TERMS + 1)) + ")", "100 terms"),
        ("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, "(" * (MAX_DEPTH + 1) + "a", "at most 30 deep"),
        ("-" * MAX_DEPTH + "a", "-" * 9_999 + "a", "at most 30 deep"),
        ("-(" * (MAX_DEPTH // 2) + "a" + ")" * (MAX_DEPTH // 2), "NOT (-" * 11 + "a", "at most 30 deep"),
    ],
    ids=["length", "terms", "group", "parentheses", "exclusions", "both"],
)
def test_limits_are_errors(allowed: str, too_much: str, why: str) -> None:
    assert search.parse(allowed)
    with pytest.raises(InvalidSearch, match=why):
        search.parse(too_much)


PIECES = st.lists(
    st.sampled_from(
        [
            *' :()[]"*-<>=\\',
            " OR ",
            " AND ",
            "NOT ",
            " TO ",
            "status:",
            "metadata.a:",
            "created:",
            "tokens:",
            "2026",
            "x",
        ]
    )
    | st.characters(),
    max_size=20,
).map("".join)


@settings(max_examples=1000, deadline=None)
@given(st.text() | PIECES)
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    try:
        node = search.parse(text)
    except InvalidSearch as error:
        position = error.position or 1
    else:
        position = 1
        assert search.parse("" if node is None else str(node)) == node
    assert 1 <= position <= len(text) + 1
