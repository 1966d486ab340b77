"""What decides a fingerprint: a change, the steps that it makes anew, and what the plan says of the first of them.

One run of the tiny recipe is planned over, again and again. `pytest tests/pipeline/test_what_is_redone.py`
"""

import os
import re
import shutil
from copy import deepcopy
from functools import partial

import pytest

from pipeline_lib.pipeline import code_fingerprint, fingerprints, input_checks, steps
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.schema import check
from pipeline_lib.store import artifacts

HEADER = "text,mood\n"


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_bert):
    """A folder with data, base and the store of one run, and its recipe as plain data with relative paths."""
    folder = tmp_path_factory.mktemp("ran")
    texts = {"glad": ["a fine day", "the sun is warm", "we laughed"], "sad": ["it rains", "nobody came", "a long wait"]}
    rows = [
        f"{text} {place},{mood}\n"
        for mood, texts_of_mood in texts.items()
        for text in texts_of_mood
        for place in ["at", "in", "by"]
    ]
    (folder / "moods.csv").write_text(HEADER + "".join(rows * 2))
    (folder / "more.csv").write_text(HEADER + "".join(row.replace(",", " on the train,") for row in rows))
    shutil.copytree(tiny_bert, folder / "base")
    document = {
        "name": "moods",
        "data": {
            "source": {"kind": "csv", "train": ["moods.csv", "more.csv"]},
            "columns": {"text": "text", "label": "mood"},
            "split": {"validation": 0.2, "test": 0.2},
        },
        "model": {"base": "base"},
        "objective": {"kind": "text_classification"},
        "strategies": [{"kind": "full"}],
        "training": {"epochs": 1, "learning_rate": 5e-3, "batch_size": 8},
        "execution": {"store": "store", "device": "cpu", "precision": "fp32", "tracking_uri": "sqlite:///mlflow.db"},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(check(deepcopy(document)))
    return folder, document


class Change:
    """A copy of what has been run, to be changed: `recipe` is plain data, files are in the working directory."""

    def __init__(self, folder, recipe, monkeypatch):
        self.folder, self.recipe, self.monkeypatch = folder, recipe, monkeypatch


def of_recipe(change, path, value):
    *parents, last = path.split(".")
    place = change.recipe
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value


def of_text(change, file, old, new):
    text = (change.folder / file).read_text()
    assert old in text
    (change.folder / file).write_text(text.replace(old, new, 1))


def another_name_and_date(change):
    (change.folder / "moods.csv").rename(change.folder / "other.csv")
    os.utime(change.folder / "other.csv", (1, 1))
    change.recipe["data"]["source"]["train"] = ["other.csv", "more.csv"]


def another_order(change):
    change.recipe["data"]["source"]["train"] = ["more.csv", "moods.csv"]


def one_more_file(change):
    (change.folder / "third.csv").write_text(HEADER + "what a fine day,glad\n")
    change.recipe["data"]["source"]["train"].append("third.csv")


def one_file_less(change):
    change.recipe["data"]["source"]["train"].pop()


def renamed_column(change):
    for file in ("moods.csv", "more.csv"):
        of_text(change, file, "mood", "feeling")
    change.recipe["data"]["columns"]["label"] = "feeling"


def another_base_folder(change):
    (change.folder / "base").rename(change.folder / "elsewhere")
    change.recipe["model"]["base"] = "elsewhere"


def other_weights(change):
    file = change.folder / "base" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def other_library(change, library):
    known = artifacts.version
    change.monkeypatch.setattr(artifacts, "version", lambda name: "99.0" if name == library else known(name))


def other_code(change, file, old, new):
    root = change.folder / "copy" / "pipeline_lib"
    shutil.copytree(code_fingerprint.PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    of_text(change, root / file, old, new)
    change.monkeypatch.setattr(fingerprints, "module_digests", partial(code_fingerprint.module_digests, root=root))


def setting(path, value):
    return partial(of_recipe, path=path, value=value)


# What is made anew, in a plan: labels are not known before `prepare` is made, so it expects a new start as well.
MODEL, START, ROWS, ALL = (
    "finetune evaluate",
    "initialise checks finetune evaluate",
    "prepare initialise checks finetune evaluate",
    "moods.csv more.csv prepare initialise checks finetune evaluate",
)
ONE = f"moods.csv {ROWS}"
OTHER_BYTES = "the content of the file changed"

CHANGES = {
    "nothing": (lambda change: None, "", ""),
    "the recipe's name": (setting("name", "other"), "", ""),
    "the same file under another name and date": (another_name_and_date, "", ""),
    "the same files in another order": (another_order, "", ""),
    "the same base in another folder": (another_base_folder, "", ""),
    "a comment in our code": (
        partial(other_code, file="data/shards.py", old="BATCH = 2048", new="BATCH = 2048  # rows"),
        "",
        "",
    ),
    "a rate": (setting("training.learning_rate", 0.25), MODEL, "training.learning_rate 0.005 → 0.25"),
    "gradient checkpointing": (setting("training.gradient_checkpointing", True), "", ""),
    "a metric": (setting("evaluation.metrics", ["accuracy"]), "evaluate", 'evaluation.metrics.0 nothing → "accuracy"'),
    "a slice by length": (
        setting("evaluation.slices", [{"kind": "length", "edges": [4]}]),
        "evaluate",
        'evaluation.slices.0.kind nothing → "length"',
    ),
    "how seriously a finding is taken": (
        setting("data.checks.duplicates", "error"),
        "checks evaluate",
        'checks.duplicates "warn" → "error"',
    ),
    "a mended check": (
        partial(other_code, file="checks/labels.py", old="FEW = 10", new="FEW = 12"),
        "checks evaluate",
        "the code of pipeline_lib.checks.labels changed",
    ),
    "a strategy": (
        setting("strategies", [{"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.5}]),
        START,
        'strategies.1.kind nothing → "layerwise_lr"',
    ),
    "a regularizer": (
        setting("regularizers", [{"kind": "weight_decay", "value": 0.1}]),
        MODEL,
        'regularizers.0.kind nothing → "weight_decay"',
    ),
    "a precision": (setting("execution.precision", "bf16"), MODEL, 'precision "fp32" → "bf16"'),
    "an attention": (setting("execution.attention", "eager"), MODEL, 'attention nothing → "eager"'),
    "the seed": (setting("seed", 8), ROWS, "seed 7 → 8"),
    "a share": (setting("data.split.validation", 0.3), ROWS, "split.validation 0.2 → 0.3"),
    "a length": (setting("objective.max_length", 5), ALL, "objective.max_length null → 5"),
    "a renamed column": (renamed_column, ALL, f'columns.label "mood" → "feeling"; {OTHER_BYTES}'),
    "a changed row": (partial(of_text, file="moods.csv", old="a fine day at", new="a fine day near"), ONE, OTHER_BYTES),
    "one more row": (
        partial(of_text, file="moods.csv", old=HEADER, new=f"{HEADER}we laughed on the train,glad\n"),
        ONE,
        OTHER_BYTES,
    ),
    "one more file": (one_more_file, f"third.csv {ROWS}", OTHER_BYTES),
    "one file less": (one_file_less, ROWS, "a train file is gone"),
    "another tokenizer": (
        partial(of_text, file="base/tokenizer_config.json", old="64", new="63"),
        f"base {ALL}",
        "tokenizer_config.json changed",
    ),
    "other weights": (other_weights, f"base {START}", "model.safetensors changed"),
    "another version of tokenizers": (partial(other_library, library="tokenizers"), ALL, r"tokenizers [\d.]+ → 99\.0"),
    "another version of torch": (partial(other_library, library="torch"), START, r"torch [\d.+a-z]+ → 99\.0"),
    "another version of scipy": (partial(other_library, library="scipy"), "evaluate", r"scipy [\d.]+ → 99\.0"),
    "a helper of ours": (
        partial(other_code, file="data/shards.py", old="BATCH = 2048", new="BATCH = 1024"),
        ALL,
        "the code of pipeline_lib.data.shards changed",
    ),
}


@pytest.fixture
def change(ran, tmp_path, monkeypatch):
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Change(tmp_path, deepcopy(ran[1]), monkeypatch)


def to_be_made(recipe):
    return [step for step in plan(check(recipe)).planned if not step.artifact]


@pytest.mark.parametrize(("make", "redone", "why"), CHANGES.values(), ids=CHANGES)
def test_what_a_change_makes_anew_and_what_the_plan_says_of_it(make, redone, why, change):
    make(change)
    steps_to_make = to_be_made(change.recipe)
    assert " ".join(step.of or step.step for step in steps_to_make) == redone
    if steps_to_make:
        pattern = why if "\\" in why else re.escape(why)
        assert re.fullmatch(f"{pattern}; all else equal to [0-9a-f]{{8}} of .*", steps_to_make[0].why), steps_to_make[
            0
        ].why


def test_what_waits_says_for_what_and_no_more_than_it_knows(change):
    setting("objective.max_length", 5)(change)
    words = {step.step: step.why.split("; all else")[0] for step in to_be_made(change.recipe)}
    assert words["prepare"] == "waits for train file; objective.max_length null → 5"
    assert words["initialise"] == "waits for labels; objective.max_length null → 5"
    assert words["finetune"] == "waits for prepare, initialise; objective.max_length null → 5"
    assert words["evaluate"] == "waits for prepare, checks, finetune; objective.max_length null → 5"


OTHERWISE = {
    "device": "auto",
    "precision": "fp32",  # as it was: this field and the next two decide bytes
    "attention": "auto",
    "compile": False,
    "store": "elsewhere",
    "tracking_uri": "sqlite:///other.db",
    "when_mlflow_is_down": "fail",
    "experiment": "other",
    "checkpoint_seconds": 1,
    "workers": 7,
    "task_runner": "ray",
    "cluster": "ray://somewhere:10001",
    "watts": 250,
    "cost_per_hour": 3.5,
    "processes": 2,
    "machines": 1,  # several need a store with a URL
    "rendezvous": "localhost:29400",
    "sharding": "full",
}


def test_how_a_run_is_carried_out_makes_nothing_anew(change, monkeypatch):
    monkeypatch.setattr(input_checks, "require_extras", lambda recipe: None)  # Ray need not be installed
    (change.folder / "store").rename(change.folder / "elsewhere")
    change.recipe["execution"] = {name: OTHERWISE[name] for name in Execution.model_fields}
    assert to_be_made(change.recipe) == []


FROZEN = {
    "a rate": (setting("training.learning_rate", 0.25), False),
    "the batches": (setting("training.batch_size", 4), False),
    "a regularizer": (setting("regularizers", [{"kind": "weight_decay", "value": 0.1}]), False),
    "a precision": (setting("execution.precision", "bf16"), True),
    "a changed row": (partial(of_text, file="moods.csv", old="a fine day at", new="a fine day near"), True),
}


@pytest.mark.parametrize(("make", "anew"), FROZEN.values(), ids=FROZEN)
def test_what_makes_the_trunk_of_frozen_layers_anew(make, anew, change):
    change.recipe["strategies"] = [{"kind": "partial", "last_layers": 1}]

    def trained():
        recipe = check(change.recipe)
        data = steps.prepare(recipe)
        steps.finetune(recipe, data, steps.initialise(recipe, data))
        return {place.name for place in (change.folder / "store" / "steps" / "features").iterdir()}

    before = trained()
    make(change)
    change.recipe["training"]["epochs"] = 2
    assert (trained() != before) is anew


def test_a_changed_row_leaves_the_start_alone_and_another_label_does_not(change):
    of_text(change, "moods.csv", "a fine day at", "a fine day near")
    recipe = check(change.recipe)
    assert steps.initialise(recipe, steps.prepare(recipe)).reused
    text = (change.folder / "more.csv").read_text()
    (change.folder / "more.csv").write_text(text + "".join(f"so it is {word},calm\n" for word in "abcdefghijkl"))
    start = steps.initialise(recipe, steps.prepare(recipe))
    assert not start.reused
    assert start.why.startswith('labels.0 "glad" → "calm"; labels.1 "sad" → "glad"; labels.2 nothing → "sad"; ')
