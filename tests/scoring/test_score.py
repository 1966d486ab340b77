"""Batch prediction: shards, kills, models by address. `pytest tests/scoring`."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import send_nothing
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import check
from pipeline_lib.scoring import score as scoring
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.tracking.registry import Registry

TEXTS = ["what a fine day at home", "the soup is cold in town", None, "a sweet song by the sea", " ", "i lost the game"]


@pytest.fixture
def trained(ran):
    with pytest.MonkeyPatch.context() as patch:
        send_nothing(patch)
        return run(check(ran))


@pytest.fixture
def request_(trained, recipe, tmp_path):
    for name, texts in (("a", TEXTS), ("b", TEXTS[:2])):
        (tmp_path / "in").mkdir(exist_ok=True)
        table = pa.table({"id": range(len(texts)), "message": texts})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet", row_group_size=4)
    return Scoring(
        model=str(trained.model.folder),
        data=str(tmp_path / "in"),
        out=str(tmp_path / "out"),
        columns={"text": "message"},
        shard_rows=2,
        device="cpu",
        store=recipe.execution.store,
        tracking_uri=tracking_uri(recipe.execution),
    )


def done(request):
    model = scoring.fetch_model(request)
    return [scoring.score(request, model, file) for file in scoring.files(request)]


def test_answers_stand_beside_the_rows_and_rows_without_text_have_none(request_, trained, tmp_path):
    first, second = done(request_)
    assert (first.rows, first.shards, second.rows, second.shards) == (6, 3, 2, 1)
    assert second.reused == 1  # the same two rows as the first shard of the other file
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert table["answered"].to_pylist() == [True, True, False, True, False, True]
    requests = [{"text": text} for text in TEXTS if text and text.strip()]
    alone = LoadedModel(trained.model.folder / "model", device="cpu").answer(requests)
    predictions = [value for value in table["prediction"].to_pylist() if value is not None]
    assert predictions == alone["prediction"]
    assert table["prediction"].to_pylist()[2] is None


def test_a_rerun_answers_only_what_is_new_or_damaged(request_, tmp_path):
    before = [answer.shards for answer in done(request_)]
    whole = (tmp_path / "out" / "a.parquet").read_bytes()
    (tmp_path / "out" / "a.parquet").unlink()
    again = done(request_)
    assert [answer.reused for answer in again] == before
    assert (tmp_path / "out" / "a.parquet").read_bytes() == whole
    kept_file = sorted((tmp_path / "store" / "steps" / "answers").glob("*/answers.parquet"))
    kept_file[0].write_bytes(b"no longer Parquet")
    assert sum(answer.shards - answer.reused for answer in done(request_)) == 1
    assert (tmp_path / "out" / "a.parquet").read_bytes() == whole


def test_a_prediction_that_is_killed_goes_on_with_the_next_shard(request_, monkeypatch, tmp_path):
    sound, calls = scoring._predict_shard, []

    def killed(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        sound(*given)

    monkeypatch.setattr(scoring, "_predict_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        done(request_)
    assert not list((tmp_path / "out").glob("*"))  # nothing half-written
    monkeypatch.undo()
    assert done(request_)[0].reused == 1


def test_a_registered_model_is_found_by_its_alias_and_fetched_once(request_, recipe, tmp_path, monkeypatch):
    name = f"moods-{tmp_path.name}"
    version = Registry(recipe.execution, name).register(run(recipe).published["model"], {}, "tried")
    MlflowClient(request_.tracking_uri).set_registered_model_alias(name, "champion", str(version.number))
    registered = request_.model_copy(update={"model": f"models:/{name}@champion"})
    from_folder = [answer.shards for answer in done(request_)]
    assert [answer.reused for answer in done(registered)] == from_folder  # the same bytes, the same answers
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda *_, **__: pytest.fail("fetched again"))
    done(registered)
    with pytest.raises(RecipeError, match="MLflow rejects the request"):
        done(registered.model_copy(update={"model": f"models:/{name}@challenger"}))


def test_the_command_line_answers_and_tells_mistakes(request_, tmp_path):
    given = ["score", request_.model, request_.data, "--out", str(tmp_path / "out"), "--store", request_.store]
    said = CliRunner().invoke(app, [*given, "--column", "text=message"])
    assert said.exit_code == 0, said.output
    assert "6 rows to" in said.output
    said = CliRunner().invoke(app, given)
    assert said.exit_code == 2
    assert "columns.text = 'text': is not a column of a.parquet, which has id, message" in said.output
    said = CliRunner().invoke(app, [*given, "--column", "txt=message"])
    assert "Did you mean 'text'?" in said.output
    said = CliRunner().invoke(app, [*given[:3], "--out", request_.data])
    assert "would overwrite" in said.output


@pytest.mark.parametrize("content", [b"", b"message\na\n", "cut", "damaged"])
def test_a_file_that_is_no_parquet_is_one_error(request_, tmp_path, content):
    file = tmp_path / "in" / "a.parquet"
    pq.write_table(pa.table({"message": [f"what a fine day {index}" for index in range(500)]}), file)
    whole = file.read_bytes()
    damage = {"cut": whole[: len(whole) // 2], "damaged": whole[:200] + b"\0" * 60 + whole[260:]}
    file.write_bytes(damage.get(content, content))
    with pytest.raises(RecipeError, match=r"a\.parquet.*cannot be read as Parquet"):
        scoring.score(request_, scoring.fetch_model(request_), file)


@pytest.mark.parametrize("name", ["message", "id"])
def test_columns_of_one_name_are_refused(request_, tmp_path, name):
    file = tmp_path / "in" / "a.parquet"
    table = pa.Table.from_arrays([pa.array(TEXTS), pa.array(TEXTS)], [name, name])
    pq.write_table(table.append_column("message", pa.array(TEXTS)) if name == "id" else table, file)
    with pytest.raises(RecipeError, match=f"several columns named '{name}'"):
        scoring.score(request_, scoring.fetch_model(request_), file)


def test_a_file_that_changes_meanwhile_gets_no_predictions_of_other_rows(request_, tmp_path, monkeypatch):
    file = tmp_path / "in" / "a.parquet"
    predict = scoring._predict_shard

    def write_meanwhile(*arguments):
        pq.write_table(pa.table({"id": range(6), "message": ["another text"] * 6}), file)
        predict(*arguments)

    monkeypatch.setattr(scoring, "_predict_shard", write_meanwhile)
    with pytest.raises(RecipeError, match="changed while it was predicted"):
        scoring.score(request_, scoring.fetch_model(request_), file)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_paths_stay_where_a_worker_holds_them(request_, tmp_path, monkeypatch):
    request_ = request_.model_copy(update={"model": str(tmp_path / "model"), "tracking_uri": None})
    monkeypatch.setenv("TUNESMITH_ROOT", str(tmp_path / "in"))
    with pytest.raises(RecipeError, match="lies outside the folder"):
        scoring.files(request_)
    monkeypatch.setenv("TUNESMITH_ROOT", str(tmp_path))
    assert len(scoring.files(request_)) == 2
