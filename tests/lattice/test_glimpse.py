"""What is shown of arguments and answers: enough to recognise them, nothing that is secret."""

import pytest

from lattice import ByteStream
from lattice.glimpse import WIDTH, glimpse


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (41, "41"),
        ("hi", '"hi"'),
        ("two\nlines", '"two\\nlines"'),
        (b"\xff\x00ok", 'b"\\ufffd\\x00ok"'),
        ({"some": 1.5, "list": [True, "a"]}, '{some: 1.5, list: [True, "a"]}'),
        (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, … 12 more]"),
        ([[[[["deep"]]]]], "[[[[…]]]]"),
        (ByteStream(), "<stream>"),
    ],
)
def test_a_value_is_shown_in_one_line(value, shown):
    assert glimpse(value) == shown


def test_what_is_long_is_cut_and_says_how_long_it_is():
    assert glimpse("x" * 1000) == f'"{"x" * 80}… 1000 in all"'
    assert glimpse(b"x" * 1_000_000) == f'b"{"x" * 80}… 1000000 in all"'
    assert len(glimpse(["x" * 70] * 8)) == WIDTH


@pytest.mark.parametrize(
    "value",
    [
        "the key is s3cr3t-value!",
        b"the key is s3cr3t-value!",
        {"nested": [("x-note", b"s3cr3t-value")]},
        {"s3cr3t-value": 1},
        "x" * 70 + "s3cr3t-value",
        [("Authorization", b"Basic dXNlcjpwYXNz-unknown")],
        [["set-cookie", "id=unknown"]],
        {"password": "unknown", "api-key": b"unknown"},
        {"path-with-query": "/login?user=me&token=unknown&x=1"},
    ],
)
def test_secrets_are_hidden_by_what_they_are_and_by_what_they_are_called(value):
    shown = glimpse(value, {"s3cr3t-value", b"bytes"})
    assert "***" in shown
    assert "s3cr" not in shown and "unknown" not in shown


def test_the_longer_of_two_secrets_is_hidden_whole():
    assert glimpse("abcdef", {"abc", "abcdef"}) == '"***"'
