"""Prefect's page in a browser: the form, its mistakes, schedules, the steps, the way to MLflow.

`pytest tests/deployments/test_browser.py`; with SCREENSHOTS=FOLDER the pages are kept there.
"""

import json
import os
import shutil
import urllib.request
from pathlib import Path

import pytest
from stub_server import Stub, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def page():
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def keep(page, name, **options):
    if folder := os.environ.get("SCREENSHOTS"):
        page.evaluate("scrollTo(0, 0)")  # else the menu at the side stands where the page was left
        page.screenshot(path=Path(folder) / f"{name}.png", **options)


def field(part, label):
    """The input under a label; optional ones have it behind their name."""
    return part.get_by_label(label, exact=True).or_(part.get_by_label(f"{label} (Optional)", exact=True)).first


def choose(page, part, shown, choice):
    """Take a choice from a drop-down list that shows `shown` so far."""
    part.get_by_role("button").or_(part.get_by_role("combobox")).filter(has_text=shown).first.click()
    page.get_by_role("option", name=choice, exact=True).click()


def open_form(running, page, name):
    deployment = running.deployment(name)["id"]
    page.goto(f"{running.prefect}/v2/deployments/deployment/{deployment}/run")
    page.locator("form").get_by_text("recipe", exact=True).wait_for()


def submit(page):
    """Press Submit until the form is left: while SQLite is busy Prefect's page does not try again by itself."""
    for _ in range(5):
        page.get_by_role("button", name="Submit").click()
        page.wait_for_timeout(1500)
        if not page.url.endswith("/run"):
            return


def newest(running, deployment, name):
    """The newest run of a deployment that has this name, or None."""
    chosen = {"deployments": {"id": {"any_": [running.deployment(deployment)["id"]]}}}
    found = running.ask("/flow_runs/filter", {**chosen, "sort": "EXPECTED_START_TIME_DESC", "limit": 20})
    return next((run for run in found if run["name"] == name), None)


def artifacts(running, flow_run):
    return running.ask("/artifacts/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})


def log_lines(running, flow_run):
    return [
        record["message"] for record in running.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}})
    ]


def test_the_form_is_filled_in_and_its_run_is_followed_to_mlflow(running, page):
    open_form(running, page, "finetune")
    form = page.locator("form")
    assert form.evaluate("form => form.querySelectorAll('input, textarea, select, button').length") < 40
    assert form.bounding_box()["height"] < 1700
    field(page, "Run Name").fill("first try")
    choose(page, form, "Select", "moods")
    choose(page, form, "as in the recipe", "LoRA")
    field(page, "epochs").fill("2")
    field(page, "learning_rate").fill("0.005")
    field(page, "name").fill("by-hand")
    page.get_by_role("button", name="Add item").click()
    form.locator("textarea").last.fill("training.warmup=0.1")
    keep(page, "form", full_page=True)
    submit(page)

    run = running.until(lambda: newest(running, "finetune", "first try"), what="the run of the form")
    parameters = {"strategy": "LoRA", "epochs": 2, "learning_rate": 0.005, "overrides": ["training.warmup=0.1"]}
    assert run["parameters"] == {"recipe": "moods", "name": "by-hand", **parameters}
    running.ends(run["id"], "Completed")
    assert newest(running, "finetune", "first try")["id"] == run["id"]  # the typed name is kept

    (shown,) = [record for record in artifacts(running, run["id"]) if record["type"] == "progress"]
    assert shown["data"] == 100.0
    page.goto(f"{running.prefect}/v2/artifacts/artifact/{shown['id']}")
    link = page.get_by_role("link", name="Follow it in MLflow")
    assert link.get_attribute("href").startswith(running.mlflow)
    keep(page, "progress")
    lines = log_lines(running, run["id"])
    assert any("follow it in MLflow: http" in line for line in lines), "\n".join(lines)

    again = running.start(running.deployment("finetune")["id"], run["parameters"])
    running.ends(again, "Completed")
    flow_run = running.ask(f"/flow_runs/{again}", method="GET")
    assert flow_run["name"] == "moods by-hand LoRA epochs=2 learning_rate=0.005 warmup=0.1"
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
    page.get_by_text("by-hand").first.wait_for()
    page.get_by_text("test/accuracy").first.wait_for(state="attached")
    keep(page, "mlflow")


def test_a_page_of_another_origin_neither_reads_runs_nor_shows_the_form_in_a_frame(running, page):
    class Foreign(Stub):
        def do_GET(self):
            self.reply(200, "text/html", f"<iframe src='{running.prefect}/'></iframe>")

    attack = """async servers => {
        const results = []
        for (const [address, options] of servers)
            results.push(await fetch(address, options).then(answer => answer.text()).catch(error => error.name))
        return results
    }"""
    api, mlflow = f"{running.prefect}/api", f"{running.mlflow}/api/2.0/mlflow"
    post = {"method": "POST", "headers": {"content-type": "application/json"}, "body": "{}"}
    plain = {"method": "POST", "mode": "no-cors", "body": '{"name": "evil"}'}
    requests = [[f"{api}/deployments/filter", post], [f"{api}/csrf-token?client=evil", {}], [f"{api}/flows/", plain]]
    requests += [[f"{mlflow}/experiments/get?experiment_id=0", {}], [f"{mlflow}/experiments/create", plain]]
    with serving(Foreign) as port:
        foreign = page.context.browser.new_page()
        refused = []
        foreign.on("console", lambda message: refused.append(message.text))
        foreign.goto(f"http://evil.localhost:{port}/")  # Chromium resolves *.localhost to this machine
        assert foreign.evaluate(attack, requests) == ["TypeError", "TypeError", "", "TypeError", ""]
        assert any("frame-ancestors" in message for message in refused)
        foreign.close()
    assert "evil" not in [flow["name"] for flow in running.ask("/flows/filter")]
    with urllib.request.urlopen(f"{mlflow}/experiments/search?max_results=100") as found:
        assert "evil" not in [experiment["name"] for experiment in json.load(found)["experiments"]]


def test_a_mistake_is_shown_at_its_field_and_one_that_the_form_cannot_see_begins_the_failed_run(running, page):
    open_form(running, page, "finetune")
    form = page.locator("form")
    field(page, "Run Name").fill("with a mistake")
    choose(page, form, "Select", "moods")
    field(page, "epochs").fill("0")
    page.get_by_role("button", name="Submit").click()
    message = field(page, "epochs").evaluate("input => input.validationMessage")
    assert message == "Value must be greater than or equal to 1."
    keep(page, "mistake")
    assert newest(running, "finetune", "with a mistake") is None

    field(page, "epochs").fill("1")
    page.get_by_role("button", name="Add item").click()
    form.locator("textarea").last.fill("training.epoch=3")
    submit(page)
    run = running.until(lambda: newest(running, "finetune", "with a mistake"), what="the run")
    state = running.ends(run["id"], "Failed")
    assert state["message"] == "training.epoch = 3: there is no such field. Did you mean 'epochs'?"
    mistake = "training.epoch = 3: there is no such field"
    running.until(lambda: any(mistake in line for line in log_lines(running, run["id"])), what="the run's log")
    assert not any("Traceback" in line for line in log_lines(running, run["id"]))
    page.goto(f"{running.prefect}/v2/runs/flow-run/{run['id']}")  # which does not look again for an ended run's log
    page.get_by_text(mistake).first.wait_for()
    keep(page, "failed")


def test_a_schedule_is_added_and_its_runs_appear(running, page):
    deployment = running.deployment("retrain-by-name")["id"]
    page.goto(f"{running.prefect}/v2/deployments/deployment/{deployment}")
    page.get_by_role("button", name="Schedule").last.click()
    dialog = page.locator("[data-slot='dialog-content']")  # a closing list of choices is a dialog, too
    dialog.get_by_role("tab", name="Cron").click()
    dialog.get_by_label("Value").first.fill("30 2 * * *")
    dialog.get_by_role("button", name="Select timezone").click()
    page.get_by_placeholder("Search", exact=True).fill("Tokyo")
    page.get_by_role("option", name="Asia / Tokyo").click()
    choose(page, dialog, "Select", "moods")
    keep(page, "schedule")
    dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="detached")

    (schedule,) = running.deployment("retrain-by-name")["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("30 2 * * *", "Asia/Tokyo")

    def scheduled():
        chosen = {
            "deployments": {"id": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        return running.ask("/flow_runs/filter", chosen)

    runs = running.until(scheduled, 90, "a scheduled run")  # Prefect looks at its schedules once a minute
    assert all(run["parameters"]["recipe"] == "moods" for run in runs)
    assert all("T17:30:00" in run["expected_start_time"] for run in runs)  # in UTC
