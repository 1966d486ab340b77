"""The base of adapters is kept in MLflow once. `pytest tests/tracking/test_base_model.py`."""

import json

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import TOKENIZER, WEIGHTS, digests
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.base_model import EXPERIMENT, fetch_served_base, keep_base


def test_two_adapters_share_one_base(document, tracking_uri, tmp_path):
    from mlflow.artifacts import download_artifacts
    from mlflow.tracking import MlflowClient

    client, pointers = MlflowClient(tracking_uri), []
    document["strategies"], document["training"]["epochs"] = [{"kind": "lora", "rank": 2}], 1
    for seed in (1, 2):
        model = run(check(document | {"seed": seed})).published["model"]
        location = client.get_logged_model(model.removeprefix("models:/")).artifact_location
        folder = tmp_path / f"model-{seed}"
        download_artifacts(location, dst_path=str(folder), tracking_uri=tracking_uri)
        assert not [*folder.rglob("base/model.safetensors")]
        pointers.append(json.loads(next(folder.rglob("base.json")).read_text()))
    assert pointers[0] == pointers[1]
    bases = client.search_logged_models([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert [f"models:/{base.model_id}" for base in bases].count(pointers[0]["model"]) == 1
    named = {base.model_id: base.name for base in bases}
    assert len({*named.values()}) == len(named)  # no base twice


@pytest.mark.server
def test_a_base_is_downloaded_once_and_compared(mlflow_server, tiny_bert, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    client = MlflowClient(mlflow_server.uri)
    pointer = keep_base(client, tiny_bert, tmp_path)
    folder = fetch_served_base(pointer, mlflow_server.uri)
    assert digests(folder, (*WEIGHTS, *TOKENIZER)) == digests(tiny_bert, (*WEIGHTS, *TOKENIZER))
    assert fetch_served_base(pointer, "http://127.0.0.1:9") == folder  # nothing is asked for
    (folder / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match="needs its base model, but .* contains a different one"):
        fetch_served_base(pointer)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        RecipeError, match="needs its base model, which cannot be fetched from .*Set MLFLOW_TRACKING_URI"
    ):
        fetch_served_base(pointer, "http://127.0.0.1:9")
