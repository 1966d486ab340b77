"""Prefect's page in a browser: the form, the steps, the way to MLflow. `pytest tests/deployments/test_browser.py`.

With SCREENSHOTS=FOLDER the pages are kept there.
"""

import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page():
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def keep(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def field(page, label):
    """The first input under a label; optional ones have it told behind their name."""
    return page.get_by_label(label, exact=True).or_(page.get_by_label(f"{label} (Optional)", exact=True)).first


def test_a_form_is_filled_in_and_its_run_is_followed_to_mlflow(running, asked, page):
    first = running.start(running.deployment("finetune")["id"], {"recipe": asked})
    deployment = running.deployment("finetune")["id"]

    page.goto(f"{running.prefect}/v2/deployments/deployment/{deployment}/run")
    page.get_by_role("tab", name="Csv").first.wait_for()
    for label, value in (
        ("Name", "by-hand"),
        ("Label", asked["data"]["columns"]["label"]),
        ("Base", asked["model"]["base"]),
        ("Epochs", "2"),
        ("Learning rate", "0.005"),
    ):
        field(page, label).fill(value)
    page.locator("textarea").filter(has_text="support/train.csv").fill(asked["data"]["source"]["train"])
    page.locator("textarea").filter(has_text="support/test.csv").fill(asked["data"]["source"]["train"])
    page.get_by_role("tab", name="LoRA").first.click()
    keep(page, "form")
    running.ends(first, "Completed")
    for _ in range(5):  # while SQLite is busy Prefect's page has no luck, and does not try again by itself
        page.get_by_role("button", name="Submit").click()
        page.wait_for_timeout(1500)
        if "/run" not in page.url.split("deployment/")[-1]:
            break

    run = running.until(lambda: newest(running, first), what="the run of the form")
    assert run["parameters"]["recipe"]["name"] == "by-hand"
    assert run["parameters"]["recipe"]["strategies"][0]["kind"] == "lora"
    running.ends(run["id"], "Completed")

    again = running.start(deployment, {"recipe": run["parameters"]["recipe"]})
    running.ends(again, "Completed")
    page.goto(f"{running.prefect}/v2/runs/flow-run/{again}?tab=TaskRuns")
    page.get_by_text("Reused").first.wait_for()
    for step in ("encode", "prepare", "initialise", "finetune", "evaluate", "publish"):
        assert page.get_by_text(step).first.is_visible(), step
    keep(page, "steps")

    page.goto(f"{running.prefect}/v2/runs/flow-run/{again}?tab=Artifacts")
    page.locator("a[href*='/artifacts/key/scores-by-hand']").first.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    link = page.locator(f"a[href^='{running.mlflow}/']").first
    link.wait_for()
    keep(page, "scores")
    page.goto(link.get_attribute("href"))
    page.get_by_text("by-hand training").first.wait_for()
    # the run that people see first carries the scores
    page.get_by_text("test/accuracy").first.wait_for(
        state="attached"
    )
    keep(page, "mlflow")


def newest(running, but):
    found = running.ask("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 5})
    return next((run for run in found if run["id"] != but and run["parameters"]["recipe"]["name"] == "by-hand"), None)
