"""Preference tuning: formats of rows, the reference as a step, scores, answers. `pytest tests/objectives`."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline_lib.data.examples import IGNORED
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions_file import read_predictions
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.export.export import export
from pipeline_lib.objectives import Preference
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.nested_steps import reference
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.retrain.rescore import write_rescored
from pipeline_lib.training.finetune import write_finetuned
from pipeline_lib.training.inputs import Inputs

DPO, KTO = Preference(kind="preference", loss="dpo"), Preference(kind="preference", loss="kto")
TEXTS = ("fine day", "sweet song", "cold soup", "long wait", "warm sun")
PLACES = ("home", "town", "mill", "train", "sister")
PAIRS = [
    {"prompt": f"{text} {place}", "chosen": place, "rejected": f"the {text}"} for text in TEXTS for place in PLACES
]
LABELLED = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for row in PAIRS
    for side in ("chosen", "rejected")
]
ASKED, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
)
HH = "\n\nHuman: q\n\nAssistant: "


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, {}),
        ({"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}, {}),
        ({"prompt": [ASKED], "chosen": "a", "rejected": [BAD]}, {}),
        ({"prompt": "q", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, {}),
        ({"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, {"whole_dialogues": True}),
        ({"chosen": json.dumps([ASKED, GOOD]), "rejected": json.dumps([ASKED, BAD])}, {"whole_dialogues": True}),
        ({"chosen": f"{HH}a", "rejected": f"{HH}b"}, {"whole_dialogues": True}),
        ({"prompt": json.dumps([ASKED]), "chosen": json.dumps([GOOD]), "rejected": repr([BAD])}, {}),
        ({"prompt": None, "chosen": repr([ASKED, GOOD]), "rejected": json.dumps([ASKED, BAD])}, {}),
        ({"prompt": "q", "chosen": GOOD, "rejected": BAD}, {}),
        ({"prompt": [ASKED], "chosen": [ASKED, GOOD], "rejected": [BAD]}, {}),
    ],
)
def test_pairs_are_read_in_all_common_formats(row, settings):
    clean = Preference(kind="preference", loss="dpo", **settings).clean(row)
    assert clean == {"messages": [ASKED], "chosen": [GOOD], "rejected": [BAD]}


def test_a_system_prompt_of_its_own_column_stands_before_the_prompt():
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"}
    assert DPO.clean(row)["messages"] == [{"role": "system", "content": "s"}, ASKED]
    labelled = {"prompt": "q", "completion": "a", "label": "good", "system": "s"}
    assert KTO.clean(labelled)["messages"] == [{"role": "system", "content": "s"}, ASKED]


@pytest.mark.parametrize("label", [True, 1, "true", "1", 1.0, "chosen"])
def test_single_answers_have_a_label(label):
    assert KTO.clean({"prompt": "q", "completion": "a", "label": label})["label"] is True
    whole = Preference(kind="preference", loss="kto", whole_dialogues=True)
    assert whole.clean({"completion": [ASKED, BAD], "label": False}) == {
        "messages": [ASKED],
        "completion": [BAD],
        "label": False,
    }


@pytest.mark.parametrize(
    ("objective", "row", "reason"),
    [
        (DPO, {"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same"),
        (DPO, {"prompt": "q", "chosen": "", "rejected": "a"}, "empty chosen"),
        (DPO, {"prompt": "", "chosen": "a", "rejected": "b"}, "empty prompt"),
        (DPO, {"prompt": None, "chosen": [GOOD], "rejected": [BAD]}, "empty prompt"),
        (DPO, {"prompt": "q", "chosen": [ASKED, GOOD], "rejected": [GOOD | {"role": "system"}, BAD]}, "in common"),
        (DPO, {"prompt": "q", "chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD, ASKED, BAD]}, "chosen has no answer"),
        (
            DPO,
            {"prompt": "r", "chosen": [ASKED, GOOD], "rejected": [BAD]},
            "a user message that differs from the prompt",
        ),
        (KTO, {"prompt": "r", "completion": [ASKED, GOOD], "label": 1}, "a user message that differs from the prompt"),
        (KTO, {"prompt": "q", "completion": "a", "label": "perhaps"}, "does not say whether"),
        (KTO, {"prompt": "q", "completion": "a", "label": None}, "does not say whether"),
    ],
)
def test_rows_that_cannot_be_used_say_why(objective, row, reason):
    with pytest.raises(ValueError, match=reason):
        objective.clean(row)


@pytest.mark.parametrize("change", [{"content": "a "}, {"reasoning_content": "hm"}])
def test_answers_that_the_template_writes_alike_are_no_pair(tiny, change):
    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    tokenizer.chat_template = "{% for m in messages %}[CLS] {{ m.content | trim }} [SEP] {% endfor %}"
    row = DPO.clean({"prompt": "q", "chosen": [GOOD], "rejected": [GOOD | change]})
    with pytest.raises(ValueError, match="are the same in the chat template"):
        DPO.read_row(tokenizer, row)


def test_only_answers_are_learned_and_both_keep_the_same_prompt(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    row = DPO.clean({"prompt": "the sun is warm", "chosen": "a fine day", "rejected": "it rains on my shoes again"})
    short = DPO.model_copy(update={"max_length": 8}).encode(tokenizer, [row])
    names = (("input_ids", "target_ids"), ("rejected_ids", "rejected_target_ids"))
    texts = []
    for ids, targets in names:
        learned = [token for token in short[targets][0] if token != IGNORED]
        texts.append((tokenizer.decode(short[ids][0][: -len(learned)]), tokenizer.decode(learned)))
    (prompt, chosen), (other, rejected) = texts
    assert (chosen, rejected) == ("a fine day [SEP]", "it rains on my shoes again [SEP]")
    assert prompt == other == "warm"  # without a template nothing but words stands before an answer


def test_a_batch_of_answers_to_other_prompts_has_none_of_its_own(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    import pyarrow as pa

    rows = [KTO.clean(row) for row in LABELLED[:6]]
    columns = KTO.encode(tokenizer, rows)
    schema = pa.schema(KTO.arrow_schema())
    columns |= {name: [row.get(name) for row in rows] for name in schema.names if name not in columns}
    encoded = KTO.features(pa.table({name: columns[name] for name in schema.names}, schema=schema), [])
    assert (encoded.group, encoded.groups, len(encoded)) == (2, 6, 12)
    for group in range(6):
        own, other = encoded.inputs(np.array([group]))
        prompt = [token for token, target in zip(encoded.ids[own], encoded.targets[own], strict=True) if target < 0]
        assert encoded.ids[other][: len(prompt)].tolist() == prompt
        assert encoded.ids[other].tolist() not in [encoded.ids[row].tolist() for row in range(0, 12, 2)]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"kind": "preference"}, "objective.loss: is required"),
        ({"kind": "preference", "loss": "dpo", "gamma": 1}, "gamma is only used by the loss simpo"),
        (
            {"kind": "preference", "loss": "simpo", "desirable_weight": 2},
            "desirable_weight is only used by",
        ),
        ({"kind": "preference", "loss": "dpo", "tau": 1}, "objective.tau = 1: there is no such field"),
    ],
)
def test_settings_of_other_losses_are_refused(document, objective, message):
    with pytest.raises(RecipeError, match=message):
        check(document | {"objective": objective})


@pytest.mark.parametrize(("loss", "regularizer"), [("dpo", {"kind": "r_drop"}), ("ipo", {"kind": "label_smoothing"})])
def test_regularizers_that_mean_nothing_are_refused(document, loss, regularizer):
    changes = {"objective": {"kind": "preference", "loss": loss}, "regularizers": [regularizer]}
    with pytest.raises(RecipeError, match=r"regularizers\.0"):
        check(document | changes)


def test_a_rerun_with_another_loss_or_rate_makes_no_reference_pass(trained, document, tmp_path):
    training = {"epochs": 4, "learning_rate": 1e-2}
    settings = {"kind": "preference", "loss": "dpo", "max_answer": 3}
    changes = {"regularizers": [{"kind": "dropout", "value": 0.1}, {"kind": "early_stopping", "patience": 3}]}
    changes["evaluation"] = {"baselines": ["untrained"], "slices": [{"kind": "length", "edges": [12]}]}
    outcome, scores = trained(PAIRS * 3, "llama", settings, training=training, **changes)
    assert scores["preference_accuracy"] > 0.9
    assert scores["margin"] > 0.1
    assert scores["kl"] > 0
    assert -1 <= scores["length_bias"] <= 1
    metrics = json.loads((outcome.scores.folder / "metrics.json").read_text())
    untrained = metrics["baselines"]["untrained"]
    assert untrained["preference_accuracy"]["value"] == 0.5
    assert untrained["kl"]["value"] == pytest.approx(0, abs=1e-9)
    assert metrics["metrics"]["preference_accuracy"]["low"] <= scores["preference_accuracy"]
    assert {part["name"] for part in metrics["slices"]} >= {"length from 12"}

    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    answerer = LoadedModel(outcome.model.folder / "model")
    answers = answerer.answer([{"prompt": row["messages"][0]["content"]} for row in rows])
    assert answers == {"prediction": [row["prediction"] for row in rows], "error": [None] * len(rows)}
    assert all(row["chosen_reward"] - row["rejected_reward"] < 50 for row in rows)

    store = outcome.scores.folder.parents[1]
    before = [*(store / "reference").iterdir()]
    rescored, exported = tmp_path / "rescored", tmp_path / "exported"
    rescored.mkdir()
    places = (outcome.data.folder, store / "shard", outcome.model.folder / "model", None, before[0], rescored)
    write_rescored(check(document), *places)  # as the champion of a retraining
    assert read_predictions(rescored).outcome.mean("right") == scores["preference_accuracy"]
    assert AutoModelForCausalLM.from_pretrained(export(outcome.model.folder / "model", exported))

    for loss, beta in (("dpo", 0.5), ("ipo", 0.1)):
        document["objective"] = settings | {"loss": loss, "beta": beta}
        document["training"]["learning_rate"] = 5e-3
        planned = {step.step: step.status for step in plan(check(document)).planned}
        assert planned["shard"] == planned["prepare"] == planned["reference"] == "reused"
        assert planned["finetune"] == "to be created"
    run(check(document | {"training": training | {"epochs": 1}}))
    assert [*(store / "reference").iterdir()] == before


@pytest.mark.parametrize("loss", ["kto", "simpo"])
def test_what_is_wanted_wins(trained, loss):
    rows = (LABELLED if loss == "kto" else PAIRS) * 3
    objective = {"kind": "preference", "loss": loss, "max_answer": 3}
    outcome, scores = trained(rows, "llama", objective, training={"epochs": 4, "learning_rate": 1e-2, "batch_size": 8})
    assert scores["preference_accuracy"] > (0.6 if loss == "kto" else 0.9)  # kto's are single answers of few words
    assert scores["margin"] > 0.1
    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    assert ("reward" if loss == "kto" else "chosen_reward") in rows[0]


def test_a_training_that_is_stopped_at_every_step_ends_with_the_same_bytes(document, tiny, tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, LABELLED)), encoding="utf-8")
    document["data"] = {"source": {"kind": "jsonl", "train": "rows.jsonl"}}
    document["model"]["base"], document["objective"] = str(tiny["llama"]), {"kind": "preference", "loss": "kto"}
    document |= {"strategies": [{"kind": "lora", "rank": 2}], "regularizers": [{"kind": "dropout", "value": 0.1}]}
    document["training"] |= {"epochs": 2, "batch_size": 12, "batch_tokens": 64}
    document["execution"]["checkpoint_seconds"] = 1e-9  # one after every step
    recipe = check(document)
    data = steps.prepare(recipe)
    start, base = steps.initialise(recipe, data), steps.fetch_base(recipe)
    known = reference(recipe, data, base, "a test")
    inputs = Inputs(data.folder, tmp_path / "store/steps/shard", base.folder, start.folder, reference=known.folder)
    folders = {name: tmp_path / name for name in ("straight", "stopped", "work", "other work")}
    for folder in folders.values():
        folder.mkdir()

    write_finetuned(recipe, inputs, folders["work"], lambda records, steps: None, folders["straight"])
    stops = 0
    while not (folders["stopped"] / "summary.json").exists():
        left = iter([None] * 2)  # the step after the checkpoint, and the one that is lost

        def watch(records, steps, left=left):
            if records and records[0]["split"] == "train" and next(left, "stop"):
                raise KeyboardInterrupt

        try:
            write_finetuned(recipe, inputs, folders["other work"], watch, folders["stopped"])
        except KeyboardInterrupt:
            stops += 1
    assert stops > 1
    files = [path.relative_to(folders["straight"]) for path in folders["straight"].rglob("*") if path.is_file()]
    for file in files:
        assert (folders["straight"] / file).read_bytes() == (folders["stopped"] / file).read_bytes(), file
