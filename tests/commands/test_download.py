"""`download`: an entry of params.yaml, fetched by the downloader that it names."""

from __future__ import annotations

import inspect

import pytest

from tasks.commands import download
from tasks.core.errors import ParamsError
from tasks.sources.transfer import DOWNLOADERS
from tests.imports import ROOT
from tests.sources.server import Script, serving

TABLE = b"ImageID,LabelName,Confidence\n1,/m/cat,1\n"


@pytest.fixture
def params(monkeypatch, tmp_path):
    """A function that puts a text after `download:` into a copy of params.yaml, read from the current folder."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    before, after = text.split("\ndownload:\n", 1)
    after = after[after.index("\n\n") :]
    monkeypatch.chdir(tmp_path)
    return lambda entries: (tmp_path / "params.yaml").write_text(f"{before}\ndownload:\n{entries}{after}", "utf-8")


@pytest.mark.parametrize("kind", sorted(DOWNLOADERS))
def test_a_downloader_takes_a_folder_and_keyword_only_options(kind):
    root, *options = inspect.signature(DOWNLOADERS[kind]).parameters.values()
    assert root.name == "root"
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)


def test_the_files_of_an_entry_are_put_into_its_folder(params, tmp_path):
    with serving(Script(bodies={"/v7/labels.csv": TABLE})) as server:
        params(f"  oi: {{kind: openimages, path: raw, tables: {{labels.csv: '{server.url}/v7/labels.csv'}}}}\n")
        download.command("oi")
    assert (tmp_path / "raw/labels.csv").read_bytes() == TABLE


def test_an_unknown_entry_and_an_unknown_option_are_refused_with_the_nearest(params):
    params("  flowers: {kind: openimages, path: raw, tabels: {}}\n")
    with pytest.raises(ParamsError, match=r"download: no entry 'flower'\. Did you mean 'flowers'"):
        download.command("flower")
    with pytest.raises(ParamsError, match=r"unknown option 'tabels'\. Did you mean 'tables'"):
        download.command("flowers")
