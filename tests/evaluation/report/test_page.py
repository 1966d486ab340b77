"""The report page: what it escapes, and its width. `pytest tests/evaluation/report/test_page.py`."""

import json
import shutil
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.evaluation.report.page import write_report
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(
    each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1
).map(each => each.outerHTML.slice(0, 200))"""


PLACES = set()


def hostile(place):
    """A text that would be run if it were not escaped; all places are expected on the page."""
    PLACES.add(place)
    return f"<script>{place}</script> & 'quoted' {{{{ 7 * 7 }}}}"


SCORE = {"value": 0.5, "low": None, "high": None, "higher_is_better": True, "meaning": hostile("meaning")}
SCORES = {
    "rows": 3,
    "groups": 3,
    "level": 0.95,
    "metrics": {"accuracy": SCORE},
    "baselines": {hostile("baseline"): {"accuracy": SCORE}},
    "slices": [{"name": hostile("slice"), "rows": 3, "metrics": {"accuracy": SCORE}}],
    "notes": [hostile("note")],
    "collapsed": hostile("collapse"),
    "per_class": [{"label": hostile("label"), "precision": 1.0, "recall": 1.0, "f1": None, "support": 3}],
    "checks": [
        {
            "level": "warn",
            "problem": hostile("problem"),
            "hint": hostile("hint"),
            "examples": [{"file": hostile("file of an example"), "line": 1}],
        }
    ],
}


class Page(HTMLParser):
    """The tags of a page, its texts and its attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [value for _, value in attrs]

    def handle_data(self, data):
        self.text += data


def test_what_data_and_models_say_is_text_and_not_html(document, tmp_path):
    files = [{"split": "train", "file": hostile("file"), "rows": 3, "unusable": 1}]
    (tmp_path / "report.json").write_text(json.dumps({"rows": {"train": 3}, "files": files}), encoding="utf-8")
    (tmp_path / "summary.json").write_text(json.dumps({"best": hostile("summary")}), encoding="utf-8")
    tables = {
        "unusable": {"file": [hostile("unusable file")], "line": [2], "reason": [hostile("reason")]},
        "predictions": {"text": [hostile("text")], "prediction": [hostile("prediction")]},
        "examples": {"text": [hostile("text of an example")], "why": ["worst"]},
        "suspects": {hostile("column"): [0.5]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    document["data"]["columns"] = {"text": hostile("recipe"), "label": "mood"}
    write_report(check(document), SCORES, tmp_path, tmp_path, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert {place for place in PLACES if hostile(place) in page.text} == PLACES
    assert hostile("column") in page.attributes


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
