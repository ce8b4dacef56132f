"""Names from strangers: no paths, nothing that a terminal obeys, and everything else as it is."""

from __future__ import annotations

import io

import pytest

from tasks.core.names import escaped, printable, short, unfit


@pytest.mark.parametrize("name", ["cat", "/m/01g317", "AC/DC", "犬🐕", "a..b", "...", "$x^2$", "_hidden", "<b>", "a b"])
def test_any_text_may_be_an_id(name):
    assert unfit(name) == ""


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("../../x", "another folder"),
        ("..", "another folder"),
        ("a\\..\\b", "another folder"),
        ("a/./b", "another folder"),
        ("a\x1b[2Jb", "U+001B"),
        ("a\nb", "U+000A"),
        ("\u202egnp.exe", "U+202E"),
        ("\ud800", "U+D800"),
    ],
)
def test_a_path_part_and_what_a_terminal_obeys_are_no_id(name, wrong):
    assert wrong in unfit(name)


def test_a_terminal_shows_what_it_would_have_obeyed_and_colours_pass():
    written = io.BytesIO()
    stream = escaped(io.TextIOWrapper(written, encoding="ascii"))
    print("a\x1b[2J\rb\x9b\ud800é \x1b[31mred\x1b[0m\n\tend", file=stream)
    assert written.getvalue() == b"a\\x1b[2J\\rb\\x9b\\ud800\\xe9 \x1b[31mred\x1b[0m\n\tend\n"


def test_a_name_in_a_line_or_a_figure_is_one_short_line():
    assert printable("a\r\n b\x1b[2J") == "a b\\x1b[2J"
    assert short("x" * 100) == "x" * 59 + "…"
