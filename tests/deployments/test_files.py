"""What stands in `deployments`, read and checked against what it is for; no Docker and no cluster runs here."""

import json
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from pipeline_lib.data.sources import Source
from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe.loading import load, load_by_name
from pipeline_lib.recipe.schema import check
from pipeline_lib.regularizers import Regularizer
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.strategies import Strategy

FOLDER = Path(__file__).parents[2] / "deployments"
LISTED = yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]


def flow(deployment):
    module, _, name = deployment["entrypoint"].rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("deployment", LISTED, ids=lambda entry: entry["name"])
def test_a_deployment_names_a_flow_and_parameters_that_it_has(deployment):
    known = parameter_schema(flow(deployment)).model_dump()["properties"]
    assert deployment.get("parameters", {}).keys() <= known.keys()
    assert deployment["work_pool"] == {"name": "tunesmith"}
    assert deployment["name"] == flow(deployment).name  # what `up` and the README call it


def test_the_form_starts_with_the_demo():
    (form,) = (record["parameters"]["recipe"] for record in LISTED if record["name"] == "finetune-recipe")
    filled = json.loads(json.dumps(form).replace("{{ $TUNESMITH_RECIPES }}", str(FOLDER / "recipes")))
    assert check(filled).model_dump() == load(FOLDER / "recipes" / "demo.yaml").model_dump()


def sections(schema):
    yield from ((name, definition) for name, definition in schema["definitions"].items() if "properties" in definition)


@pytest.mark.parametrize("deployment", LISTED, ids=lambda entry: entry["name"])
def test_every_field_of_a_form_is_described_and_in_its_place(deployment):
    schema = parameter_schema(flow(deployment)).model_dump()
    for name, section in sections(schema):
        for field, description in section["properties"].items():
            assert description.get("description") or "$ref" in description, f"{name}.{field}"
        positions = [description["position"] for description in section["properties"].values()]
        assert sorted(positions) == list(range(len(positions)))
        if "kind" in section["properties"]:
            assert section["properties"]["kind"]["default"] == section["properties"]["kind"]["const"]
            assert "kind" in section["required"]


def taken_for(value, members):
    """As Prefect's form chooses: the first of the members that have most of a value's fields."""
    return max(members, key=lambda member: len(value.keys() & member.model_fields.keys()))


@pytest.mark.parametrize("union", [Objective, Strategy, Regularizer, Source])
def test_the_form_takes_a_whole_value_for_one_with_the_same_fields(union):
    members = get_args(get_args(union)[0])
    for member in members:
        assert taken_for(member.model_fields, members).model_fields.keys() == member.model_fields.keys()


def test_the_form_takes_the_demo_for_what_it_is():
    (form,) = (record["parameters"]["recipe"] for record in LISTED if record["name"] == "finetune-recipe")
    values = [(Objective, form["objective"]), (Source, form["data"]["source"])]
    values += [(Regularizer, value) for value in form["regularizers"]] + [
        (Strategy, value) for value in form["strategies"]
    ]
    for union, value in values:
        assert value["kind"] in get_args(taken_for(value, get_args(get_args(union)[0])).model_fields["kind"].annotation)


def test_a_recipe_is_found_by_its_name_and_no_name_leads_out_of_the_folder(monkeypatch):
    monkeypatch.setenv("TUNESMITH_RECIPES", str(FOLDER / "recipes"))
    assert load_by_name("demo", ["training.epochs=2"]).training.epochs == 2
    for wrong in ("dmo", "../recipes/demo", "/etc/passwd"):
        with pytest.raises(RecipeError, match=r"there is no such recipe in .*Choose one of banking77, chat, demo"):
            load_by_name(wrong)
    monkeypatch.setenv("TUNESMITH_RECIPES", "/nowhere")
    with pytest.raises(RecipeError, match=r"Set \$TUNESMITH_RECIPES to a folder of recipes"):
        load_by_name("demo")


def test_what_compose_starts_is_all_there():
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services = document["services"]
    assert services.keys() == {"postgres", "s3", "buckets", "prefect", "mlflow", "register", "worker"}
    for name, service in services.items():
        assert service.get("image"), name
        assert set(service.get("depends_on", {})) <= services.keys()
        for volume in service.get("volumes", []):
            mounted = volume.removeprefix("${TUNESMITH_RECIPES:-./recipes}")
            assert mounted == ":/srv/recipes:ro" or volume.partition(":")[0] in document["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        healthy = [n for n, how in service.get("depends_on", {}).items() if how["condition"] == "service_healthy"]
        assert all("healthcheck" in services[other] for other in healthy), name
    assert (FOLDER.parent / "deployments" / "Dockerfile").is_file()
    ours = services["worker"]["environment"]
    assert ours["PREFECT_API_URL"].split("/")[2].split(":")[0] in services
    assert ours["MLFLOW_TRACKING_URI"].split("/")[2].split(":")[0] in services


def test_a_form_for_scoring_is_what_the_command_line_takes():
    assert Scoring(model="models:/moods@champion", data="rows", out="answers").shard_rows == 10_000
    with pytest.raises(ValueError, match="shard_rows"):
        Scoring(model="m", data="rows", out="answers", shard_rows=0)
