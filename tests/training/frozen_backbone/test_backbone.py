"""What frozen layers put out, computed once: training from it ends with the same bytes. `pytest tests/training`."""

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.models.parameter_depth import PLACES, read_parameter_infos
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.nested_steps import cache_features
from pipeline_lib.pipeline.plan import format_plan, plan
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.store import Store
from pipeline_lib.tracking.throughput import training_seconds
from pipeline_lib.training.finetune import build_loop, write_finetuned
from pipeline_lib.training.frozen_backbone import backbone, feature_cache
from pipeline_lib.training.frozen_backbone.layers import frozen_layers, why_not_cached
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.step import Stepper

pytestmark = pytest.mark.usefixtures("unpublished")
HEAD, LAST, TWO = ({"kind": "partial", "last_layers": layers} for layers in (0, 1, 2))
DECODER = {"kind": "partial", "patterns": ["*decoder.block.1.*"]}
HEAD_FIRST = {"kind": "full", "start_epoch": 2}


def inputs(recipe, features=None):
    """What a training of the recipe reads."""
    prepared = steps.prepare(recipe)
    initial, base = steps.initialise(recipe, prepared), steps.fetch_base(recipe)
    shards = Store(recipe.execution.store).root / "steps" / "shard"
    return Inputs(prepared.folder, shards, base.folder, initial.folder, features)


def features_of(recipe):
    """The artifacts of the recipe's features, after a training."""
    data = steps.prepare(recipe)
    steps.finetune(recipe, data, steps.initialise(recipe, data))
    return sorted((Store(recipe.execution.store).root / "steps" / "features").glob("*"))


def cached(recipe):
    """The folder of the recipe's features, without the training that starts from them."""
    data = steps.prepare(recipe)
    found = cache_features(recipe, data, steps.initialise(recipe, data), steps.fetch_base(recipe), "a test")
    return found and found.folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json"
    }


def with_and_without(recipe, tmp_path):
    """The files of a training that computes frozen layers in every step, and of one that starts from cached features"""
    found = []
    for name, features in (("without", None), ("with", cached(recipe))):
        for place in ("work", "out"):
            (tmp_path / name / place).mkdir(parents=True)
        out, work = tmp_path / name / "out", tmp_path / name / "work"
        write_finetuned(recipe, inputs(recipe, features), work, lambda records, steps: None, out)
        found.append(bytes_of(out))
    return found


@pytest.fixture
def of_family(document, tiny, tmp_path):
    """A recipe for a family and an objective over sentences of 3 to 9 words."""

    def make(family, kind, strategy):
        rows = [row.rsplit(",", 1) for row in (tmp_path / "moods.csv").read_text().splitlines()[1:]]
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "mood", "source", "target"), *((t, m, t, m) for t, m in rows)])
        document["data"]["source"]["train"] = str(tmp_path / "rows.csv")
        document["model"] = {"base": str(tiny[family])}
        document["objective"] = {"kind": kind} | ({"modeling": "causal", "block_size": 8} if "model" in kind else {})
        document["strategies"] = [strategy]
        document["training"] |= {"epochs": 3}
        return check(document)

    return make


CASES = {
    "bert head": ("bert", "text_classification", HEAD),
    "bert last layer": ("bert", "text_classification", LAST),
    "gpt2 head": ("gpt2", "text_classification", HEAD),
    "gpt2 last layer": ("gpt2", "language_modeling", LAST),
    "llama last layer": ("llama", "text_classification", LAST),
    "t5 decoder": ("t5", "seq2seq", DECODER),
    "t5 head": ("t5", "text_classification", HEAD),
    "bert head first": ("bert", "text_classification", HEAD_FIRST),
    "gpt2 head first": ("gpt2", "text_classification", HEAD_FIRST),
}


@pytest.mark.parametrize("case", CASES)
def test_training_from_the_trunk_ends_with_the_same_bytes(of_family, tmp_path, case):
    without, with_it = with_and_without(of_family(*CASES[case]), tmp_path)
    assert without.keys() == with_it.keys()
    assert [name for name in without if without[name] != with_it[name]] == []


def test_dropout_above_the_trunk_and_in_parts_of_a_step_changes_nothing(of_family, document, tmp_path):
    of_family("bert", "text_classification", LAST)
    document["regularizers"] = [{"kind": "dropout", "value": 0.4}, {"kind": "mixout", "probability": 0.5}]
    document["training"]["batch_tokens"] = 17
    without, with_it = with_and_without(check(document), tmp_path)
    assert without == with_it


@pytest.mark.parametrize(
    ("case", "place"), [("bert head", 0), ("gpt2 head", -1), ("bert last layer", None), ("t5 head", None)]
)
def test_a_head_that_reads_one_place_keeps_one_vector_a_row(of_family, tmp_path, case, place):
    recipe = of_family(*CASES[case])
    (tmp_path / "work").mkdir()
    loop = build_loop(recipe, inputs(recipe, cached(recipe)), tmp_path / "work")
    assert loop.backbone.place == place
    lengths = loop.train.hidden.lengths
    assert lengths.tolist() == (loop.train.ids.lengths if place is None else np.ones(len(loop.train), int)).tolist()


def test_the_trunk_is_left_when_what_is_in_it_begins_to_be_trained(of_family, tmp_path, monkeypatch):
    recipe, own, seen = of_family("bert", "text_classification", HEAD_FIRST), Stepper.step, []

    def watched(stepper, rows, step, rate):
        below = next(weight for name, weight in stepper.weights.items() if "layer.0" in name)
        seen.append((stepper.backbone is not None, stepper.train.hidden is not None, below.requires_grad))
        return own(stepper, rows, step, rate)

    monkeypatch.setattr(Stepper, "step", watched)
    (tmp_path / "work").mkdir()
    loop = build_loop(recipe, inputs(recipe, cached(recipe)), tmp_path / "work")
    loop.run()
    steps_an_epoch = len(seen) // 3
    assert seen == [(True, True, False)] * 2 * steps_an_epoch + [(False, False, True)] * steps_an_epoch
    assert loop.validation.encoded.hidden is None


def test_the_trunk_gives_what_the_model_gives_without_dropout(of_family, tmp_path):
    (tmp_path / "work").mkdir()
    recipe = of_family("bert", "text_classification", LAST)
    loop = build_loop(recipe, inputs(recipe), tmp_path / "work")
    batch = {"input_ids": torch.tensor([[2, 110, 111, 3], [2, 112, 3, 0]])}
    batch["attention_mask"] = (batch["input_ids"] > 0).long()
    loop.model.train()
    hidden = loop.backbone.compute(batch)
    assert loop.model.training and not hidden.requires_grad
    expected = loop.model.eval()(**batch, output_hidden_states=True).hidden_states[1]
    there = batch["attention_mask"].bool()
    assert torch.allclose(hidden[there], expected[there], atol=1e-5)
    assert not hidden[~there].any()


class Twice:
    """A backbone that puts out every token's id, twice."""

    place, model = None, SimpleNamespace(config=SimpleNamespace(hidden_size=2))
    accelerator = SimpleNamespace(device="cpu")

    def compute_unpadded(self, batch):
        return batch["input_ids"][..., None].float().repeat(1, 1, 2)


def test_rows_are_found_in_whatever_file_they_stand(monkeypatch, tmp_path):
    ids = [[5], [1, 2, 3], [4, 6], [7, 8], [9]]
    encoded, nothing = (Examples(Ragged.from_lists(lists), np.zeros(len(lists))) for lists in (ids, []))
    monkeypatch.setattr(feature_cache, "FILE", 3 * 2 * 4)  # three tokens
    feature_cache.write_features(Twice(), {"train": encoded, "validation": nothing}, 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    hidden = feature_cache.with_features(encoded, Twice(), tmp_path, "train").hidden
    assert hidden.pad(np.array([3, 1, 0]), 3)[..., 1].tolist() == [[7, 8, 0], [1, 2, 3], [5, 0, 0]]
    assert hidden.pad(np.array([0]), 2)[..., 1].tolist() == [[5, 0]]


WHAT_IS_FROZEN = {
    "the head alone": ([HEAD], [], 2, ""),
    "the last layer": ([LAST], [], 1, ""),
    "both layers": ([TWO], [], 0, ""),
    "gradual": ([LAST | {"gradual": True}], [], 1, ""),
    "biases": ([{"kind": "partial", "biases": True}], [], 0, ""),
    "full, the head first": ([{"kind": "full", "start_epoch": 2}], [], 2, ""),
    "full, the head first for an epoch": (
        [{"kind": "full", "start_epoch": 1}],
        [],
        2,
        "it would be used in one epoch only",
    ),
    "last layer, the head first": ([LAST | {"start_epoch": 2}], [], 1, ""),
    "never thawed": ([{"kind": "full", "start_epoch": 6}], [], 2, ""),
    "lora": ([{"kind": "lora"}], [], 0, ""),
    "a prompt": ([{"kind": "prompt"}, LAST], [], 0, ""),
    "noise": ([LAST], [{"kind": "neftune"}], 0, "neftune acts in frozen layers too"),
    "two passes": ([HEAD], [{"kind": "r_drop"}], 0, "r_drop acts in frozen layers too"),
    "noise where nothing is frozen": ([TWO], [{"kind": "neftune"}], 0, ""),
    "mixout": ([LAST], [{"kind": "mixout"}], 1, ""),
}


@pytest.mark.parametrize("case", WHAT_IS_FROZEN)
def test_what_is_frozen_and_why_it_is_not_kept(document, case):
    document["strategies"], document["regularizers"], layers, why = WHAT_IS_FROZEN[case]
    recipe = check(document)
    parameters = read_parameter_infos(steps.initialise(recipe, steps.prepare(recipe)).folder / PLACES)
    assert frozen_layers(recipe, parameters) == layers
    assert why_not_cached(recipe, parameters) == why


def test_lora_in_the_last_layer_has_a_trunk_and_masked_words_keep_none(document, of_family):
    of_family("bert", "text_classification", {"kind": "lora", "targets": ["1.attention.self.query"]})
    recipe = check(document)
    parameters = read_parameter_infos(steps.initialise(recipe, steps.prepare(recipe)).folder / PLACES)
    assert frozen_layers(recipe, parameters) == 1
    document |= {
        "objective": {"kind": "language_modeling", "modeling": "masked", "block_size": 8},
        "strategies": [LAST],
    }
    recipe = check(document)
    parameters = read_parameter_infos(steps.initialise(recipe, steps.prepare(recipe)).folder / PLACES)
    assert why_not_cached(recipe, parameters) == "language_modeling masks different tokens in every step"
    assert features_of(recipe) == []


def test_another_training_on_the_same_trunk_reuses_it(document):
    document["strategies"] = [LAST]
    (first,) = features_of(check(document))
    document["training"] |= {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8}
    document["strategies"] = [LAST | {"rate": 2.0}, {"kind": "layerwise_lr", "decay": 0.5}]
    assert features_of(check(document)) == [first]
    document["strategies"] = [HEAD]
    assert len(features_of(check(document))) == 2
    document["execution"]["precision"] = "bf16"
    document["training"]["epochs"] = 1
    assert len(features_of(check(document))) == 3


def test_a_training_counts_the_time_of_its_features_whoever_computed_them(document):
    document["strategies"], seconds = [LAST], []
    for rate in (0.005, 0.004):
        document["training"]["learning_rate"] = rate
        recipe = check(document)
        data = steps.prepare(recipe)
        measured = steps.finetune(recipe, data, steps.initialise(recipe, data)).made["measured"]
        assert training_seconds(measured) == measured["seconds"] + measured["features_seconds"]
        seconds.append(measured["features_seconds"])
    (folder,) = features_of(recipe)
    assert seconds == 2 * [json.loads((folder / "manifest.json").read_text())["made"]["seconds"]]


def test_a_plan_tells_of_the_trunk(document):
    document["strategies"] = [LAST]
    recipe = check(document)
    steps.initialise(recipe, steps.prepare(recipe))
    assert "features    to be created: not in the store yet" in format_plan(plan(recipe).planned)
    features_of(recipe)
    assert not any(step.step == "features" for step in plan(recipe).planned)  # nothing is to be trained
    document["training"]["epochs"] = 2
    planned = plan(check(document)).planned
    assert [(step.step, step.status) for step in planned[-3:]] == [
        ("features", "reused"), ("finetune", "to be created"), ("evaluate", "to be created"),
    ]  # fmt: skip
    document["regularizers"] = [{"kind": "neftune"}]
    assert "features    not cached: neftune acts in frozen layers too" in format_plan(plan(check(document)).planned)


def test_what_is_too_large_is_computed_in_every_step_with_the_same_result(document, monkeypatch, caplog):
    document["strategies"] = [LAST]
    recipe = check(document)
    features_of(recipe)
    store = Store(recipe.execution.store).root
    (straight,) = (bytes_of(place) for place in (store / "steps" / "finetune").glob("*"))
    for step in ("features", "finetune"):
        shutil.rmtree(store / "steps" / step)
    monkeypatch.setattr(feature_cache, "SHARE", 0.0)
    with caplog.at_level(logging.INFO, "tunesmith"):
        assert features_of(recipe) == []
    assert "features    not cached: 0.0 GiB are more than a quarter of the" in caplog.text
    (other,) = (bytes_of(place) for place in (store / "steps" / "finetune").glob("*"))
    assert straight == other
    assert not any((store / "partial").iterdir())


def test_a_model_that_does_not_go_on_from_its_trunk_as_before_is_trained_whole(document, monkeypatch, caplog):
    document["strategies"] = [LAST]
    monkeypatch.setattr(backbone, "ROUNDING", -1.0)  # no result is near enough
    with caplog.at_level(logging.INFO, "tunesmith"):
        assert features_of(check(document)) == []
    assert "features    not cached: the family bert can't be split below its lowest trained layer" in caplog.text


@pytest.mark.kill
@pytest.mark.parametrize(("strategy", "kills"), [(LAST, [1]), (HEAD_FIRST, [1, 60])])
def test_killed_and_run_again_it_ends_with_the_same_bytes(document, tmp_path, strategy, kills):
    """With the head first, in the epochs that start from cached features, and in those behind them."""
    document["strategies"] = [strategy]
    document["training"] |= {"epochs": 20}
    document["execution"] |= {"checkpoint_seconds": 0.05}
    straight = document | {"execution": document["execution"] | {"store": str(tmp_path / "straight")}}
    features_of(check(straight))
    (tmp_path / "recipe.json").write_text(json.dumps(document))
    for steps_done in kills:
        process = _train(tmp_path / "recipe.json")
        while process.poll() is None and _kept(tmp_path / "store" / "work") < steps_done:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    (place,) = (tmp_path / "store" / "steps" / "features").iterdir()
    manifest = (place / "manifest.json").read_bytes()
    assert _train(tmp_path / "recipe.json").wait() == 0
    assert (place / "manifest.json").read_bytes() == manifest
    first, second = (bytes_of(tmp_path / store / "steps" / "finetune") for store in ("straight", "store"))
    assert first == second


def _kept(work):
    """The step of the last checkpoint."""
    return max((int(folder.name.split("-")[1]) for folder in work.glob("*/step-*")), default=0)


def _train(recipe_file):
    code = (
        "import json, sys; from pipeline_lib.pipeline import steps; from pipeline_lib.recipe.schema import check\n"
        "recipe = check(json.load(open(sys.argv[1]))); data = steps.prepare(recipe)\n"
        "steps.finetune(recipe, data, steps.initialise(recipe, data))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(recipe_file)], start_new_session=True)


def test_a_higher_trunk_goes_on_from_a_lower_one_with_the_same_bytes(document, of_family, monkeypatch, tmp_path):
    of_family("bert", "text_classification", HEAD)
    (alone,) = features_of(check(document))
    document["execution"]["store"] = str(tmp_path / "other")
    document["strategies"] = [LAST]
    (lower,) = features_of(check(document))
    document["strategies"] = [HEAD]
    begun_with, unpadded = [], backbone.Backbone.compute_unpadded

    def watched(self, batch):
        begun_with.append("hidden" in batch)
        return unpadded(self, batch)

    monkeypatch.setattr(backbone.Backbone, "compute_unpadded", watched)
    (higher,) = {*features_of(check(document))} - {lower}
    assert any(begun_with)
    assert higher.name == alone.name
    assert bytes_of(higher) == bytes_of(alone)
    creations = [json.loads((folder / "manifest.json").read_text())["made"] for folder in (lower, higher)]
    assert creations[1]["lower_seconds"] == creations[0]["seconds"] > 0
