"""The report page on wide and narrow screens. `pytest tests/evaluation/report/test_page.py`."""

import shutil

import pytest

from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(
    each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1
).map(each => each.outerHTML.slice(0, 200))"""


@pytest.mark.browser
def test_nothing_is_wider_than_the_page(document):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    document["evaluation"] = {"baselines": ["majority", "bag_of_words"], "slices": [{"kind": "length", "edges": [20]}]}
    report = run(check(document)).report
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (500, 850, 1400):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(report.as_uri())
            assert page.evaluate(TOO_WIDE) == []
            heights = page.eval_on_selector_all(".scores tr", "rows => rows.map(row => row.offsetHeight)")
            assert max(heights) < 110  # a metric is a compact row
        browser.close()
