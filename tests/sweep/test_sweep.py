"""A sweep from recipes to its comparison, and what a rerun does again. `pytest tests/sweep/test_sweep.py`."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions import Metric, RowCounts
from pipeline_lib.evaluation.predictions_file import KeyedPredictions
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.sweep import comparison as module
from pipeline_lib.sweep.comparison import Run, write_comparison
from pipeline_lib.sweep.figure import front, pareto
from pipeline_lib.sweep.sweep import sweep
from pipeline_lib.sweep.trials import Sweep

RIGHT = Metric(lambda sums: sums.mean("right"), True, "share that is right", (0, 1))


def planted(name, level, trained, seconds=1.0, seed=0, rows=400):
    """A run that answers `level` of twenty rows right, wherever they are in the file."""
    right = (np.arange(rows) % 20 < level).astype(float)
    order = np.random.default_rng(seed).permutation(rows)
    return Run(
        name,
        KeyedPredictions(RowCounts({"right": right[order]}), np.arange(rows, dtype=np.uint64)[order]),
        trained,
        seconds,
    )


def compared(folder, *runs):
    write_comparison(runs, "right", RIGHT, 0.95, folder)
    return json.loads((folder / "comparison.json").read_text())


def test_the_sentence_says_which_differences_are_beyond_chance(tmp_path, drawn):
    found = compared(
        tmp_path, planted("full", 18, 1000), planted("lora", 17, 10, seed=1), planted("head", 9, 1, seed=2)
    )
    assert found["said"].startswith(
        "full has the best right (0.9000); it is better than lora, head beyond chance. All pairs were tested together"
    )
    assert [record["score"] for record in found["variants"]] == pytest.approx([0.9, 0.85, 0.45])
    close = compared(tmp_path, planted("full", 18, 1000), planted("again", 18, 10, seed=1))
    assert "its difference to again is within chance" in close["said"]
    page = (tmp_path / "comparison.md").read_text()
    assert "| full | 0.9000 | 0.8" in page
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_of_one_variant_count_by_their_mean(tmp_path):
    runs = [planted("a", level, 5, seconds, seed) for seed, (level, seconds) in enumerate([(10, 1.0), (14, 3.0)])]
    found = compared(tmp_path, *runs, planted("b", 12, 5))
    assert found["variants"][0] | {"low": 0, "high": 0} == {
        **{"name": "a", "seeds": 2, "score": pytest.approx(0.6), "low": 0, "high": 0, "trained": 5, "seconds": 2.0},
        "cost": None,
    }
    assert "over rows and seeds" in found["said"]


def test_cost_is_the_mean_over_seeds_and_has_a_panel_where_all_have_one(tmp_path, monkeypatch, drawn):
    shown = []
    monkeypatch.setattr(module, "pareto", lambda *given: shown.append(pareto(*given)) or shown[-1])
    dear = [replace(planted("a", 10, 5, seed=seed), cost=cost) for seed, cost in enumerate([1.0, 3.0])]
    cheap = planted("b", 12, 5)
    found = compared(tmp_path, *dear, replace(cheap, cost=0.5))
    assert [record["cost"] for record in found["variants"]] == [2.0, 0.5]
    assert "| trained parameters | seconds | cost | seeds |" in (tmp_path / "comparison.md").read_text()
    assert [record["cost"] for record in compared(tmp_path, *dear, cheap)["variants"]] == [2.0, None]
    assert "| 5 | 1.0 | – | 1 |" in (tmp_path / "comparison.md").read_text()
    compared(tmp_path, planted("a", 10, 5), cheap)
    assert "cost" not in (tmp_path / "comparison.md").read_text()
    axes = ["trained parameters", "seconds of training"]
    assert [[axes.get_xlabel() for axes in figure.axes] for figure in shown] == [
        [*axes, "cost of training"],
        axes,
        axes,
    ]


def test_other_test_rows_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="'b': has other test rows than the first recipe"):
        compared(tmp_path, planted("a", 10, 1), planted("b", 10, 1, rows=380))


def test_numbers_of_points_in_one_place_do_not_overlap(drawn):
    points = [module.Variant(f"a long name of variant {n} $x", 1, 0.8, 0.7, 0.9, 1000, 5.0, None) for n in range(8)]
    figure = pareto(points, "accuracy", True)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines to the points
        assert len(boxes) == 8
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert figure.legends[0].get_texts()[0].get_text() == "1  a long name of variant 0 $x"


def test_the_front_is_worked_out_by_hand():
    costs, scores = [1, 2, 2, 3, 4, 4], [0.5, 0.7, 0.6, 0.65, 0.9, 0.9]
    assert front(costs, scores, True) == [0, 1, 4, 5]
    assert front([3, 1, 2], [1.0, 2.0, 3.0], False) == [1, 0]


def test_recipes_times_values_times_seeds_from_the_command_line_and_again_for_nothing(document, tmp_path):
    path = tmp_path / "moods.yaml"
    path.write_text(json.dumps(document))
    command = ["sweep", str(path), "--vary", "training.epochs=[1, 4]", "--seeds", "2", "--plain"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "# accuracy on 12 test rows" in said.output
    assert "| moods epochs=4 | " in said.output
    assert "over rows and seeds" in said.output
    client = MlflowClient(document["execution"]["tracking_uri"])
    experiment = client.get_experiment_by_name(document["execution"]["experiment"]).experiment_id
    (logged,) = client.search_runs([experiment], "tags.`tunesmith.kind` = 'sweep'")
    assert logged.info.run_name == "sweep of moods over training.epochs"
    assert "mlflow.parentRunId" not in logged.data.tags
    assert (logged.data.metrics["trials"], logged.data.metrics["variants"]) == (4, 2)
    assert logged.data.metrics["test/accuracy/low"] <= logged.data.metrics["test/accuracy"]
    assert logged.data.tags["mlflow.note.content"].count("/artifacts/report.html") == 4
    assert {file.path for file in client.list_artifacts(logged.info.run_id)} >= {"comparison.md", "pareto.png"}
    again = CliRunner().invoke(app, command)
    assert all("reused" in line for line in again.stderr.splitlines())
    assert again.stdout == said.stdout


def test_a_run_that_fails_stops_no_other_and_is_the_only_one_done_again(document, monkeypatch):
    from pipeline_lib.sweep import pruning as module

    settings, done = Sweep(vary=["training.epochs=[1, 2, 3]"]), []

    def fails_once(recipe, by, **others):
        if recipe.training.epochs == 2:
            raise RuntimeError("planted")
        return run(recipe, by, **others)

    monkeypatch.setattr(module, "run", fails_once)
    with pytest.raises(RuntimeError, match="planted") as error:
        sweep([check(document)], settings)
    assert "in moods-epochs-2; the other runs are stored" in error.value.__notes__[0]

    def noted(recipe, by, **others):
        outcome = run(recipe, by, **others)
        done.extend([recipe.training.epochs] if not outcome.model.reused else [])
        return outcome

    monkeypatch.setattr(module, "run", noted)
    found = sweep([check(document)], settings)
    assert done == [2]
    assert len(json.loads((found.folder / "comparison.json").read_text())["variants"]) == 3
