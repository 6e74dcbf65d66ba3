"""The one JSON reader: what it bounds, what it decides, and what a value's type is."""

import dataclasses
import json
from typing import Any

import pytest

from runtime import strict_json
from runtime.strict_json import JsonError, fits, parse
from tests.tiny import REPOSITORY


def nested(levels: int) -> bytes:
    return b"[" * levels + b"1" + b"]" * levels


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (nested(65), "nests deeper than 64 levels"),
        (nested(200_000), "nests deeper than 64 levels"),
        (b'{"a":' * 200_000, "nests deeper than 64 levels"),
        (b"[" + b"1," * 4_000_000 + b"1]", "more than 8 MB"),
        (b'{"road": 1, "car": 2, "road": 3}', "the key 'road' is there twice"),
        (b'[{"a": {"b": 1, "b": 1}}]', "the key 'b' is there twice"),
        (b"[1e999]", "'1e999' is beyond what a number can hold"),
        (b"[-1e999]", "beyond what a number can hold"),
        (b"[18446744073709551616]", "beyond 64 bits"),
        (b"[-9223372036854775809]", "beyond 64 bits"),
        (b"1" * 5000, "beyond 64 bits"),  # int() itself refuses over 4300 digits, in words of its own
        (b"[NaN]", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number of JSON"),
        (b'["\xff"]', "not UTF-8 text (byte 0xff at 2)"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
        (rb'["\ud800"]', "half of a surrogate pair"),
        (rb'{"\udfff": 1}', "half of a surrogate pair"),
        (b"", "Expecting value"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": 1} x', "Extra data"),
        (b'["\x00"]', "Invalid control character"),
    ],
)
def test_what_is_refused_gets_its_reason_in_one_line(data, words):
    with pytest.raises(JsonError) as caught:
        parse(data)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (nested(64), json.loads(nested(64))),
        (b"\xef\xbb\xbf" + '{"straße": 1.5}'.encode(), {"straße": 1.5}),
        ("\ufeff[1]", [1]),
        (bytearray(b"[true, null]"), [True, None]),
        (
            b"[18446744073709551615, -9223372036854775808, 1e308, 5e-324]",
            [2**64 - 1, -(2**63), 1e308, 5e-324],
        ),
        (rb'["\ud83d\ude97", "\\ud800"]', ["\U0001f697", "\\ud800"]),
        (b'{"a": {"x": 1}, "b": {"x": 1}}', {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_what_is_right_is_read(data, value):
    assert parse(data) == value


def test_a_file_of_any_length_is_read_no_further_than_the_bound(tmp_path):
    path = tmp_path / "long.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of zeros, of which the disk keeps nothing
    with pytest.raises(JsonError, match="more than 8 MB"):
        strict_json.read(path)
    path.write_text("[1]", encoding="utf-8")
    assert strict_json.read(path) == [1]
    with pytest.raises(JsonError, match="more than 2e-06 MB"):
        strict_json.read(path, most_bytes=2)
    with pytest.raises(OSError):
        strict_json.read(tmp_path)


@dataclasses.dataclass
class Thing:
    side: int = 1


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.5, int, False),
        (1.0, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (float("nan"), float, False),
        (float("inf"), float, False),
        (0, bool, False),
        (None, str | None, True),
        (3, str | None, False),
        ({"a": 1}, dict[str, Any], True),
        ("text", dict[str, Any], False),
        ({"a": "b"}, dict[str, float], False),
        ({"a": 2}, str | dict[str, float] | None, True),
        ([512, 512], tuple[int, int], True),
        ([512], tuple[int, int], False),
        ((512, True), tuple[int, int], False),
        (["a", "b"], tuple[str, ...], True),
        ([], tuple[str, ...], True),
        (["a", 1], list[str], False),
        (Thing(), Thing, True),
        ({"side": 1}, Thing, False),
    ],
)
def test_types_are_those_of_json(value, hint, expected):
    assert fits(value, hint) is expected


def test_a_type_in_words():
    assert strict_json.named(int | None) == "a whole number or null"
    assert strict_json.named(tuple[int, int]) == "a list of 2, each a whole number"
    assert strict_json.named(list[str]) == "a list, each text"
    assert strict_json.named(dict[str, Any]) == "an object"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "it holds [1] where an object {...} should be"),
        ({}, 'it has no "size"'),
        ({"size": "512" * 100}, 'its "size" is \'512512'),
        ({"size": [1, True], "name": ""}, "[1, True], and has to be a list of 2, each a whole number"),
        ({"size": [1, 2], "name": None}, "is None, and has to be text"),
    ],
)
def test_an_object_is_checked_key_by_key(content, words):
    with pytest.raises(JsonError) as caught:
        strict_json.checked(content, {"size": tuple[int, int], "name": str})
    assert words in str(caught.value) and len(str(caught.value)) < 150


def test_the_fields_of_a_dataclass():
    assert strict_json.wrong_field(Thing(3)) is None
    assert strict_json.wrong_field(Thing(True)) == "side is True, and has to be a whole number"


def test_nobody_in_the_product_reads_json_otherwise():
    """A reader of its own would have bounds of its own, or none. What was just written may be read back."""
    root = REPOSITORY
    found = {
        path.relative_to(root).as_posix()
        for room in ("runtime", "app", "zoo", "training", "export")
        for path in (root / room).rglob("*.py")
        if "json.load" in path.read_text(encoding="utf-8").replace("json.loads(json.dumps(", "")
    }
    assert found == {"runtime/strict_json.py"}
