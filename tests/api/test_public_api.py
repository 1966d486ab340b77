"""The public API: what it accepts, what it returns and how that prints. `pytest tests/api/test_public_api.py`."""

import logging
import subprocess
import sys
from datetime import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import pipeline_lib
from pipeline_lib import Predictor, Recipe, compare, load_recipe, plan, run
from pipeline_lib.errors import RecipeError


@pytest.fixture
def moods(moods_csv):
    return pd.read_csv(moods_csv)


def test_importing_it_is_light_and_names_come_on_first_use():
    heavy = "{'numpy', 'pandas', 'pydantic', 'rich', 'torch', 'mlflow', 'prefect'}"
    code = f"import sys, pipeline_lib; print(sorted({heavy} & sys.modules.keys()))"
    code += "; from pipeline_lib import run, plan; print(callable(run), callable(plan), 'prefect' in sys.modules)"
    code += "; import pipeline_lib.pipeline.run, pipeline_lib.pipeline.plan; print(callable(pipeline_lib.run))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True True False", "True"]
    with pytest.raises(AttributeError, match="nothing"):
        pipeline_lib.nothing  # noqa: B018
    assert set(pipeline_lib.__all__) == set(pipeline_lib.MODULES) <= set(dir(pipeline_lib))


# Recipes


def test_a_recipe_can_be_a_path_a_dict_or_a_recipe(document, tmp_path):
    import yaml

    (tmp_path / "moods.yaml").write_text(yaml.safe_dump(document))
    from_file = load_recipe(tmp_path / "moods.yaml", {"training.epochs": 2, "strategies": [{"kind": "full"}]})
    from_dict = load_recipe(document, {"training.epochs": 2})
    changed = load_recipe(load_recipe(tmp_path / "moods.yaml"), {"training.epochs": 2})
    assert from_file.model_dump() == from_dict.model_dump() == changed.model_dump()
    assert changed.given.overrides == ("training.epochs=2",)
    assert document["training"]["epochs"] == 6
    assert isinstance(from_dict, Recipe) and load_recipe(from_dict) is from_dict


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        (7, {}, "recipe = 7: must be a path, a dict or a Recipe"),
        ({}, {"training.epochs": object}, "cannot be written in a recipe"),
        ({}, {"training.epochz": 1}, r"training\.epochz"),
        ("nothing.yaml", {}, "nothing.yaml"),
    ],
)
def test_a_mistake_names_the_field(recipe, overrides, message, document):
    with pytest.raises(RecipeError, match=message):
        load_recipe(document if recipe == {} else recipe, overrides)


def test_equal_frames_are_one_file_and_other_frames_another(document, moods):
    one = load_recipe(document, data=moods)
    again = load_recipe(document, data=moods.set_index(moods.index + 5))
    other = load_recipe(document, data={"train": moods.iloc[:50], "test": moods.iloc[50:]})
    assert one.data.source == again.data.source
    assert one.data.source.train != other.data.source.train
    assert len(pd.read_parquet(other.data.source.test)) == 10
    assert one.data.source.kind == "parquet" and one.data.source.test is None


def test_a_frame_in_place_of_a_files_source_is_an_override_that_an_audit_can_repeat(document, moods, tmp_path):
    import yaml

    (tmp_path / "moods.yaml").write_text(yaml.safe_dump(document))
    recipe = load_recipe(tmp_path / "moods.yaml", {"seed": 1}, data=moods)
    from pipeline_lib.recipe.loading import load

    assert load(recipe.given.file, recipe.given.overrides) == recipe


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda frame: {"dev": frame}, r"data = \['dev'\]: must have a DataFrame for train"),
        (lambda frame: [1], "data.train = 'list': is not a DataFrame"),
        (lambda frame: frame.iloc[:0], "data.train = '2 columns': has no rows"),
        (lambda frame: pd.DataFrame({"a": [1, "b"]}), "data.train: cannot be written as Parquet"),
        (lambda frame: pd.DataFrame([[1, 2]], columns=["a", "a"]), "data.train: cannot be written as Parquet"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused(document, moods, data, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(document, data=data(moods))


# A run


@pytest.fixture
def notebook_logging():
    """The logger as a notebook finds it: other test files import Prefect, which sets handlers and levels."""
    log = logging.getLogger("tunesmith")
    level, handlers = log.level, log.handlers
    log.setLevel(logging.NOTSET)
    log.handlers = []
    yield log
    log.setLevel(level)
    log.handlers = handlers


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, tiny_bert, tracking_uri):
    """A finished run from a DataFrame; tests only read it."""
    from conftest import MOODS, PLACES  # as tests/conftest.py is on the path

    folder = tmp_path_factory.mktemp("api")
    rows = [(f"{text} {place}", mood) for mood, texts in MOODS.items() for text in texts for place in PLACES]
    recipe = {
        "name": "moods",
        "data": {"columns": {"label": "mood"}, "split": {"validation": 0.2, "test": 0.2}},
        "model": {"base": str(tiny_bert)},
        "objective": {"kind": "text_classification"},
        "strategies": [{"kind": "partial", "last_layers": 1}],
        "training": {"epochs": 2, "learning_rate": 5e-3, "batch_size": 4},
        "execution": {"store": str(folder / "store"), "tracking_uri": tracking_uri, "experiment": folder.name}
        | {"device": "cpu", "precision": "fp32"},
    }
    loaded = load_recipe(recipe, data=pd.DataFrame(rows, columns=["text", "mood"]))
    return loaded, run(loaded)


def test_an_outcome_prints_its_metrics_and_where_everything_is(outcome):
    shown = repr(outcome[1])
    for part in ("Scores on 12 test rows", "accuracy", str(outcome[1].model_folder), "report.html", "MLflow run"):
        assert part in shown
    html = outcome[1]._repr_html_()
    assert "<td>accuracy</td>" in html and str(outcome[1].report) in html
    assert {"value", "low", "high", "meaning"} <= set(outcome[1].metrics.columns)
    assert outcome[1].metrics.loc["accuracy", "low"] <= outcome[1].metrics.loc["accuracy", "value"]
    assert len(outcome[1].predictions) == 12


def test_a_plan_prints_its_steps(outcome):
    shown = repr(plan(outcome[0]))
    assert "finetune    reused" in shown and "1 of 1 files reused" in shown


def test_a_run_shows_its_lines_once_and_leaves_logging_as_it_was(outcome, capsys, caplog, notebook_logging):
    log = notebook_logging
    before = (log.level, log.propagate, list(log.handlers))
    changed = load_recipe(outcome[0], {"evaluation.metrics": ["accuracy"]})
    run(changed)
    lines = capsys.readouterr().err.splitlines()
    assert sum("evaluate" in line for line in lines) == 1
    assert (log.level, log.propagate, list(log.handlers)) == before
    run(load_recipe(outcome[0], {"evaluation.metrics": ["macro_f1"]}), progress=False)
    assert capsys.readouterr().err == ""
    with caplog.at_level(logging.INFO, "tunesmith"):  # as with logging.basicConfig(level=logging.INFO)
        run(load_recipe(outcome[0], {"evaluation.metrics": ["accuracy", "macro_f1"]}))
    assert capsys.readouterr().err == "" and "evaluate" in caplog.text


def test_a_comparison_is_a_table_a_frame_and_a_sentence(outcome):
    recipe, one = outcome
    found = compare(one, recipe)
    assert "the difference in accuracy" in found.summary and found.summary in repr(found)
    assert found.frame.loc["accuracy", "difference"] == 0 and not found.frame["beyond_chance"].any()
    assert "<td>accuracy</td>" in found._repr_html_()
    assert compare(one.scores.folder, one).rows == 12
    with pytest.raises(RecipeError, match="has not been run"):
        compare(one, load_recipe(recipe, {"seed": 99}))
    with pytest.raises(RecipeError, match="level = 0.2"):
        compare(one, recipe, level=0.2)


# Predictions


@pytest.fixture(scope="module")
def predictor(outcome):
    return Predictor.load(outcome[1])


def test_predictions_are_those_of_the_evaluation_with_probabilities_by_name(outcome, predictor):
    tested = outcome[1].predictions
    found = predictor.predict(tested["text"].tolist())
    assert found["prediction"].tolist() == tested["prediction"].tolist()
    assert list(found.columns) == ["prediction", "probability", "probability_glad", "probability_sad", "error"]
    both = found[["probability_glad", "probability_sad"]]
    assert both.sum(axis=1).tolist() == pytest.approx([1] * 12)
    assert found["probability"].tolist() == pytest.approx(both.max(axis=1).tolist())
    assert "text_classification, labels: glad, sad" in repr(predictor)


def test_a_frame_keeps_its_index_and_rows_without_a_text_have_no_prediction(predictor):
    frame = pd.DataFrame({"message": ["i love this tea", None, " "]}, index=["a", "b", "c"])
    found = predictor.predict(frame, {"text": "message"})
    assert found.index.tolist() == ["a", "b", "c"]
    assert found["prediction"].notna().tolist() == [True, False, False]
    assert predictor.predict(frame["message"]).equals(found)
    assert predictor.predict([]).empty


def test_each_value_is_read_by_its_own_type_whatever_the_others_are(predictor):
    good = ["i love this tea", 5, b"tea", Decimal("1.5"), np.array(["i", "love"]), {"type": "text", "text": "tea"}]
    bad = [None, float("nan"), pd.NA, pd.NaT, {"a": 1}, [1, 2], True, b"\xff", "\ud800", datetime(2020, 1, 1)]
    found = predictor.predict(good + bad)
    assert found["prediction"].notna().tolist() == [True] * len(good) + [False] * len(bad)
    assert found["error"][len(good) :].str.contains("empty text|not text|not valid UTF-8|surrogate").all()


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ("a text", None, "rows = 'str': must be a list of texts"),
        ({"text": ["a"]}, None, "rows = 'dict': must be a list of texts"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), None, "columns.text = 'text': is the name of several"),
        (pd.DataFrame({"message": ["a"]}), None, "columns.text = 'text': is not a column of the DataFrame"),
        (pd.DataFrame({"text": ["a"]}), {"text": "words"}, "columns.text = 'words'"),
        (pd.DataFrame({"text": ["a"]}), {"texts": "text"}, "columns = 'texts': is not an input of this model"),
    ],
)
def test_rows_that_do_not_fit_are_refused(predictor, rows, columns, message):
    with pytest.raises(RecipeError, match=message):
        predictor.predict(rows, columns)


def test_a_model_is_loaded_from_a_folder_and_from_mlflow(outcome, predictor, tracking_uri, tmp_path):
    texts = ["i love this tea", "it rains on my shoes at home"]
    expected = predictor.predict(texts)
    one = outcome[1]
    assert Predictor.load(one.model_folder).predict(texts).equals(expected)
    assert Predictor.load(str(one.model.folder)).predict(texts).equals(expected)
    from_mlflow = Predictor.load(one.published["model"], tracking_uri=tracking_uri, store=str(tmp_path / "store"))
    assert from_mlflow.predict(texts).equals(expected)
    with pytest.raises(RecipeError, match="is not a trained model"):
        Predictor.load(tmp_path)


# Progress in a notebook


def test_a_notebook_shows_the_last_lines_and_a_bar_while_the_model_trains(monkeypatch, notebook_logging):
    from types import ModuleType, SimpleNamespace

    from pipeline_lib.api.progress import LINES, show_progress
    from pipeline_lib.training.progress import ProgressSnapshot

    shown = []

    class Output:
        def display(self, data, raw):
            shown.append(data)

        update = display

    module, display = ModuleType("IPython"), ModuleType("IPython.display")
    module.get_ipython, display.DisplayHandle = lambda: SimpleNamespace(kernel=1), Output
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    log = notebook_logging
    with show_progress() as show:
        for number in range(LINES + 5):
            log.info("line <%d>", number)
        show(ProgressSnapshot(step=3, steps=10, epoch=1, epochs=2, loss=0.5))
        assert '<progress value="30.0" max="100">' in shown[-1]["text/html"]
        assert "epoch 1 of 2" in shown[-1]["text/html"]
    assert "<progress" not in shown[-1]["text/html"]
    assert "line &lt;34&gt;" in shown[-1]["text/html"] and shown[-1]["text/plain"].startswith("line <5>")
    assert "line <4>" not in shown[-1]["text/plain"].splitlines()
    assert log.handlers == []
