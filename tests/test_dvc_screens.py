"""What DVC shows of a finished run: tables of at most 100 columns, and curves that are drawn without a network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.homes import run
from tests.imports import ROOT

CHROMIUM = Path("/usr/bin/chromium")
WIDEST = 100

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_metrics_fit_a_screen(home):
    shown = run(home, "dvc", "metrics", "show").stdout.splitlines()
    assert shown[0].split() == ["Path", "CF1", "OF1", "mAP"]
    assert max(map(len, shown)) <= WIDEST


def test_experiments_fit_a_screen_with_what_was_varied(home):
    command = ["exp", "show", "--only-changed", "--drop", "data/|tasks|params.yaml"]
    assert f"dvc {' '.join(command[:-1])} '{command[-1]}'" in (ROOT / "Makefile").read_text(encoding="utf-8")
    # As a Markdown table: without a terminal DVC squeezes the other into 80 columns.
    shown = run(home, "dvc", *command, "--md", "--keep", "CF1|OF1|mAP|finetune.loss.name").stdout.splitlines()
    assert {"mAP", "finetune.loss.name"} <= {column.strip() for column in shown[0].split("|")}
    assert max(map(len, shown)) <= WIDEST


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="needs playwright")
def test_curves_are_drawn_without_a_network(home, tmp_path):
    from playwright.sync_api import sync_playwright

    run(home, "dvc", "plots", "show", "--out", str(tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.route("https://**", lambda route: route.abort())
        page.goto((tmp_path / "index.html").as_uri())
        titles = page.locator(".lines h2").all_inner_texts()
        lines = page.locator(".lines polyline").count()
        browser.close()
    assert titles == ["Learning curve", "Precision and recall, all labels together"]
    assert lines == 3  # raw and EMA weights; all labels together
