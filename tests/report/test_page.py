"""The page in a browser: nothing is fetched, nothing overflows, on a desktop, on a phone, in the dark."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="needs playwright"),
]


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
