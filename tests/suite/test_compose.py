"""YAML text into nodes: the scalars of YAML 1.2, and everything that is refused."""

import pytest
import yaml

from sketchbench.suite import SuiteError
from sketchbench.suite import compose as module
from sketchbench.suite.compose import compose
from sketchbench.suite.mistakes import Mistakes

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]


def plain(text):
    mistakes = Mistakes()
    node = compose(text, "f", mistakes)
    mistakes.settle()
    return node and node.plain


def mistakes_of(text):
    with pytest.raises(SuiteError) as caught:
        plain(text)
    return str(caught.value).split("\n")


@pytest.fixture(params=LOADERS, ids=["python", "libyaml"])
def loader(request, monkeypatch):
    monkeypatch.setattr(module, "LOADER", request.param)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("10", 10),
        ("+7", 7),
        ("-7", -7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("!!str 12", "12"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_scalars_of_the_core_schema(text, value):
    found = plain(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "10:30",
        "no",
        "yes",
        "on",
        "off",
        "y",
        "2024-01-31",
        "1_000",
        "0b11",
        "1e",
        ".",
        "0o8",
        "inf",
        "nan",
        "NuLL",
        "tRUE",
        "1.2.3",
        "+",
        "-0x1F",
        "=",
        "e3",
    ],
)
def test_what_yaml_1_1_reads_as_something_else_is_text(text):
    assert plain(f"a: {text}") == {"a": text}


def test_an_empty_value_is_null():
    assert plain("a:\nb: ") == {"a": None, "b": None}


def test_keys_are_their_source_text():
    assert list(plain("null: 1\n1e-3: 2\ntrue: 3\n'x y': 4\n~: 5")) == (
        ["null", "1e-3", "true", "x y", "~"]
    )


def test_anchors_and_aliases_share_a_value():
    assert plain("a: &x {k: [1, 2]}\nb: *x") == {
        "a": {"k": [1, 2]},
        "b": {"k": [1, 2]},
    }


def test_places_count_characters_from_one(loader):
    mistakes = Mistakes()
    node = compose("é: {a: 1,\r\n  ü: [x, 'y']}\r\n", "f", mistakes)
    table = node.entries["é"].value
    assert table.place == ("f", 1, 4)
    assert table.entries["a"].key == ("f", 1, 5)
    assert table.entries["ü"].value.items[1].place == ("f", 2, 10)


def test_an_indent_moves_the_first_line_only():
    mistakes = Mistakes()
    node = compose("{a: 1,\n b: 2}", "f", mistakes, indent=10)
    assert [entry.key for entry in node.entries.values()] == [("f", 1, 12), ("f", 2, 2)]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: 1\na: 2", "f:2:1: 'a' is there already, in line 1"),
        ("{1: 1, '1': 2}", "f:1:8: '1' is there already, in line 1"),
        ("a: .inf", 'f:1:4: .inf is not a finite number; a quoted ".inf" is text'),
        ("a: -.Inf", 'f:1:4: -.Inf is not a finite number; a quoted "-.Inf" is text'),
        ("a: .nan", 'f:1:4: .nan is not a finite number; a quoted ".nan" is text'),
        ("a: 1e999", "f:1:4: 1e999 is too large for a number"),
        ("a: 9223372036854775808", "f:1:4: 9223372036854775808 is too large for a number"),
        ("a: " + "9" * 5000, f"f:1:4: {'9' * 19}… is too large for a number"),
        ("a: 0x" + "f" * 5000, f"f:1:4: 0x{'f' * 17}… is too large for a number"),
        ("a: !mine x", "f:1:4: the tag !mine has no meaning here; remove it"),
        ("a: !!int 3", "f:1:4: the tag !!int has no meaning here; remove it"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "f:1:4: the tag !!python/object/apply:os.system has no meaning here; remove it",
        ),
        ("? [a]\n: 1", "f:1:3: a key is one word or text, not a list or a mapping"),
        ("<<: {a: 1}", "f:1:1: merge keys (<<) left YAML in version 1.2; use an alias"),
        ("a: 1\n---\nb: 2", "f:3:1: a second document; one file holds one suite"),
        ("a: *b", "f:1:4: no anchor '&b' before this alias"),
        ("a: &a [1, *a]", "f:1:11: '*a' stands inside what it stands for"),
        ("a: x\0y", "f:1:5: character U+0000 is not allowed in YAML"),
        ("a: 1\nb: \x1b[31m", "f:2:4: character U+001B is not allowed in YAML"),
    ],
)
def test_refused_with_its_place(loader, text, mistake):
    assert mistakes_of(text) == [mistake]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a:\n\t- 1", "f:2:1: not YAML: a tab; indent with spaces"),
        ("a: b: c", "f:1:5: not YAML: mapping values are not allowed"),
        ("a: 'b", "f:1:6: not YAML: "),
        ("a: [1, 2", "f:"),
        ("a: 1\n b: 2", "f:2:3: not YAML: "),
        ("a: @x", "f:1:4: not YAML: "),
        ('a: "\\q"', "f:1:"),
        ('a: "\\UFFFFFFFF"', "f:1:"),
        ("%YAML 9.9\n---\na: 1", "f:1:1: not YAML: "),
        ("a: *", "f:1:"),
        ("a: b\n]", "f:2:1: not YAML: "),
    ],
)
def test_syntax_errors_are_one_line(loader, text, place):
    (mistake,) = mistakes_of(text)
    assert mistake.startswith(place)


def test_mistakes_that_are_not_of_syntax_come_together():
    assert [m.split(": ")[0] for m in mistakes_of("a: .inf\na: !x y\n? {}\n: z")] == (
        ["f:1:4", "f:2:1", "f:2:4", "f:3:3"]
    )


def test_half_a_surrogate_pair_is_refused(monkeypatch):
    monkeypatch.setattr(module, "LOADER", yaml.SafeLoader)
    assert mistakes_of('a: "\\ud800"') == ["f:1:4: half a surrogate pair is not text"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(loader, opening):
    (mistake,) = mistakes_of(opening * 100_000)
    assert mistake.endswith("nested deeper than 50 levels")


def test_deep_nesting_through_aliases_is_refused():
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100)]
    assert mistakes_of("\n".join(lines)) == ["f:49:12: nested deeper than 50 levels"]


def test_an_alias_bomb_is_refused():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    (mistake,) = mistakes_of("\n".join(lines))
    assert mistake.startswith("f:6:12:")
    assert mistake.endswith("more than 200,000 values, aliases counted each time")


def test_too_many_values_are_refused():
    assert "more than 200,000 values" in mistakes_of("[" + "1," * 200_001 + "]")[0]


def test_an_empty_text_has_no_node():
    for text in ("", "# only a comment\n", "---\n", "\n\n"):
        node = compose(text, "f", Mistakes())
        assert node is None or node.plain is None
