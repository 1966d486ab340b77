"""Every `tunesmith` command of the pages is executed, one after the other, on a tiny model and small data of its own.

Commands in NOT_EXECUTED are only parsed (`test_pages.py`), each for the reason given there. `run` and `retrain` get
`--plain`: tests/flows and tests/deployments have Prefect. `pytest tests/docs/test_commands.py`.
"""

import json

import pandas as pd
import pytest
import yaml
from conftest import MOODS, PLACES
from page_blocks import blocks, commands
from typer.testing import CliRunner

from pipeline_lib.cli.main import app

NOT_EXECUTED = {
    "init": "asks about the data it is given; tests/init does",
    "worker": "waits for a training; tests/training/distributed/test_machines.py does",
    "up": "starts servers; tests/deployments/test_up.py does",
    "sweep": "trains several models; tests/sweep does",
    "rollback": "needs two promotions; tests/retrain does",
    "reproduce": "names a run of another machine; tests/audit does",
}
BUCKET = "s3://"
"""Commands with a store in a bucket are not executed either: tests/store has them."""
SMALL = {"epochs": 1, "learning_rate": 5e-3, "batch_size": 4}


def executed():
    """The commands in the order of the pages; those that look at a run come after those that make it."""
    every = [c for c, words in commands("tunesmith").items() if words[0] not in NOT_EXECUTED and BUCKET not in c]
    return sorted(every, key=lambda command: command.split()[1] != "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bert):
    """A folder with the recipes, rows and gate that the pages name, and a store and an MLflow of its own."""
    folder = tmp_path_factory.mktemp("pages")
    texts = [(f"{text} {place}", mood) for mood, texts in MOODS.items() for text in texts for place in PLACES]
    frame = pd.DataFrame(texts, columns=["text", "topic"])
    frame["language"] = ["de" if number % 3 else "en" for number in range(len(frame))]
    (folder / "rows").mkdir()
    frame.head(8).to_parquet(folder / "rows" / "today.parquet")
    for name in ("train.csv", "other.csv"):
        frame[frame.index % 4 != 0].to_csv(folder / name, index=False)
    frame[frame.index % 4 == 0].to_csv(folder / "test.csv", index=False)
    written = dict(named("yaml"))
    recipe = written["intents.yaml"] | {
        "name": "support-topics",
        "evaluation": {"slices": [{"kind": "column", "column": "language"}]},
    }
    recipes = {
        "topics.yaml": written["topics.yaml"],
        "intents.yaml": written["intents.yaml"],
        "recipe.yaml": recipe,
        "other.yaml": recipe | {"seed": 8},
        "deployments/recipes/demo.yaml": recipe | {"name": "demo"},
    }
    for name, document in recipes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = document["data"] | {"source": {"kind": "csv"} | {s: str(folder / f"{s}.csv") for s in ("train", "test")}}
        small = {"model": {"base": str(tiny_bert)}, "data": data, "training": SMALL}
        path.write_text(json.dumps(document | small), encoding="utf-8")
    gate = written["gate.yaml"] | {"seeds": 1, "floors": [{"metric": "accuracy", "bound": 0.0}]}
    (folder / "gate.yaml").write_text(json.dumps(gate), encoding="utf-8")
    return folder


def named(language):
    """The complete documents of the pages, by the file that they are called there."""
    for block in blocks(language):
        document = yaml.safe_load(block.text)
        if block.text.startswith("# "):
            yield block.text[2:].split()[0].rstrip(","), document
        elif document.get("name") == "intents":
            yield "intents.yaml", document


@pytest.fixture(scope="module")
def other(folder):
    """Run the second recipe, which the pages compare with the first one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        done = CliRunner().invoke(app, ["run", "other.yaml", "--plain"])
        assert done.exit_code == 0, done.output


@pytest.fixture
def at_work(folder, other, monkeypatch):
    """Work in that folder, with its own MLflow, on one process of the CPU."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("command", executed())
def test_a_command_does_what_the_page_says(command):
    words = commands("tunesmith")[command]
    plain = ["--plain"] if words[0] in ("run", "retrain") else []
    done = CliRunner().invoke(app, [*words, *plain])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("page", ["README.md"])
def test_the_python_of_a_page_runs(page, capsys):
    """All blocks of a page, one after the other; docs/python.md has a test of its own."""
    variables = {}
    for block in blocks("python"):
        if block.page == page:
            exec(compile(block.text, block.id, "exec"), variables)
    assert capsys.readouterr().out
