"""`convert`: one tool's annotation file rewritten for another."""

from __future__ import annotations

import pytest

from tasks.commands import convert
from tasks.core.errors import SourceError
from tasks.sources import otx
from tests.sources.deliveries import datumaro_document, write_json


def test_a_datumaro_file_becomes_one_of_reid_and_the_command_says_where(tmp_path, capsys):
    source = write_json(tmp_path / "in.json", datumaro_document())
    convert.command("datumaro", source, "reid", tmp_path / "out.json")
    assert capsys.readouterr().out == f"{tmp_path / 'out.json'} written\n"
    assert set(otx.read_labelled_images(tmp_path / "out.json").classes) == {"cat", "dog"}


def test_an_unknown_format_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(SourceError, match=r"format 'datumro' is unknown here\. Did you mean 'datumaro'"):
        convert.command("datumro", tmp_path / "in.json", "reid", tmp_path / "out.json")
