"""The page in a browser: nothing is fetched, nothing overflows, on a desktop, on a phone, in the dark."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from tasks.evaluation.scored_run import read_scored_run

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="needs playwright"),
]


def test_a_label_opens_and_its_slider_reads_what_the_scores_give(home):
    from playwright.sync_api import sync_playwright

    run = read_scored_run(home / "data/reports/evaluation/scored_run.parquet")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto((home / "data/reports/report.html").as_uri())
        assert page.locator(".part[open]").count() == 0
        assert page.locator("#in-sight").inner_text() == "12 labels"
        page.locator("#label-table tbody a").first.click()
        page.fill("#filter", "seven")
        assert page.locator("#in-sight").inner_text() == "1 of 12 labels"
        page.locator("#label-table tbody tr:visible a").click()
        part = page.locator(".part[open]")  # the one that was open before has closed
        assert part.locator("summary b").inner_text() == "Seven"
        slider, answers = part.locator("input[type=range]"), {}
        for step in (0, int(slider.get_attribute("max")) // 2, int(slider.get_attribute("max"))):
            slider.fill(str(step))
            answers[step] = part.locator("output").inner_text()
        thresholds = json.loads(part.locator(".operating").get_attribute("data-curve"))["thresholds"]
        browser.close()
    c = run.labels.index("seven")
    known_N, targets_N = run.known_NC[:, c], run.targets_NC[:, c] == 1
    for step, answer in answers.items():
        decided_N = run.scores_NC[:, c] >= thresholds[step] - 5.1e-7  # in the file with six decimals
        truth = targets_N[known_N], decided_N[known_N]
        read = [float(value) for value in re.findall(r"(?:precision|recall|F1) ([\d.]+)", answer)]
        expected = [precision_score(*truth), recall_score(*truth), f1_score(*truth)]
        assert read == pytest.approx(expected, abs=5.001e-4)  # as shown, three decimals: a half may be rounded up


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_an_open_label(home, scheme):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme=scheme)
        page.goto((home / "data/reports/report.html").as_uri())
        page.locator("#label-table tbody a").first.click()
        found = Axe().run(page)
        browser.close()
    assert found.response["violations"] == [], found.generate_report()
    assert len(found.response["passes"]) > 20


def test_on_paper_the_page_is_black_on_white_without_what_is_for_clicking(home):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 720, "height": 1000}, color_scheme="dark")  # A4 less its margins
        page.goto((home / "data/reports/report.html").as_uri())
        page.locator("#label-table tbody a").first.click()
        page.emulate_media(media="print")
        clickable = [page.locator(name).first.is_visible() for name in ("nav", "#filter", "input[type=range]")]
        rows = page.locator("#label-table tbody tr:visible").count()
        style = "getComputedStyle(document.body)"
        colours = [page.evaluate(f"{style}.{name}") for name in ("color", "backgroundColor")]
        too_wide_px = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert clickable == [False] * 3
    assert (rows, too_wide_px) == (12, 0)
    assert [min(map(int, re.findall(r"\d+", colour)[:3])) > 200 for colour in colours] == [False, True]


@pytest.mark.parametrize(("width_px", "scheme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_the_page_fits_its_window_fetches_nothing_and_sorts(home, width_px, scheme):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width_px, "height": 900}, color_scheme=scheme)
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto((home / "data/reports/report.html").as_uri())
        too_wide_px = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        page.click("#label-table th:nth-child(2)")
        ap = page.eval_on_selector_all("#label-table td:nth-child(2)", "column => column.map(c => +c.dataset.value)")
        page.click("#ledger th:nth-child(3)")
        booked = page.eval_on_selector_all(
            "#ledger td:nth-child(3)", "column => column.map(c => +c.textContent.replaceAll(',', '')).filter(n => n)"
        )
        page.click("#ledger th:nth-child(1)")
        stages = page.eval_on_selector_all("#ledger td:nth-child(1)", "column => column.map(c => c.textContent)")
        links = page.eval_on_selector_all("nav a", "links => links.filter(a => !document.querySelector(a.hash)).length")
        browser.close()
    assert (troubles, too_wide_px, links) == ([], 0, 0)
    assert ap == sorted(ap, reverse=True)
    assert len(booked) > 3
    assert booked == sorted(booked, reverse=True)
    assert stages == sorted(stages)
