"""Every mistake that a user can make, and the words that the command line finds for it.

The table below is meant to be read: each message must name the field, the value and the mend in plain English.

pytest tests/recipe/test_validation_errors.py
"""

import re
import subprocess
import sys

import pytest
import yaml
from kinds import kinds
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.data.sources import Source
from pipeline_lib.objectives import Objective, TextClassification
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.regularizers import Regularizer
from pipeline_lib.strategies import Strategy

SECTIONS = ", ".join(sorted(Recipe.model_fields))
OBJECTIVES, STRATEGIES = ", ".join(kinds(Objective)), ", ".join(kinds(Strategy))
REGULARIZERS, SOURCES = ", ".join(kinds(Regularizer)), ", ".join(kinds(Source))
STOP = "kind: early_stopping"

# What the user writes behind `tunesmith run` (the recipe is recipe.yaml where no other is named) and what is told:
# "…" stands for any words, and ~ for the recipe's folder.
MISTAKES = {
    # Fields and their types
    "unknown section": (
        ["epochs=3"],
        f"epochs = 3: there is no such field. Known fields: {SECTIONS}.",
    ),
    "unknown section, nearly right": (
        ["strategy=[]"],
        "strategy = []: there is no such field. Did you mean 'strategies'?",
    ),
    "unknown key in a section": (
        ["training.epoch=3"],
        "training.epoch = 3: there is no such field. Did you mean 'epochs'?",
    ),
    "unknown key in a strategy": (
        ["strategies=[{kind: partial, last_layer: 2}]"],
        "strategies.0.last_layer = 2: there is no such field. Did you mean 'last_layers'?",
    ),
    "unknown key in a source": (
        ["data.source.delimeter=;"],
        "data.source.delimeter = ';': there is no such field. Did you mean 'delimiter'?",
    ),
    "key that is a number": (
        ["numbers.yaml"],
        f"1 = 'one': there is no such field. Known fields: {SECTIONS}.",
    ),
    "no whole number": (
        ["training.epochs=many"],
        "training.epochs = 'many': must be an integer. Give an integer: number of passes over the training data.",
    ),
    "no number": (
        ["training.warmup=[1]"],
        "training.warmup = [1]: must be a number. Give a number: share of all steps in which the learning "
        "rate rises from zero.",
    ),
    "no text": (
        ["data.columns.label=3"],
        "data.columns.label = 3: must be a string. Give a string: label to predict (text_classification); "
        "whether the completion is desirable (preference with the loss kto)",
    ),
    "no list": (
        ["evaluation.metrics=accuracy"],
        "evaluation.metrics = 'accuracy': must be a list. Give a list: metrics to report; empty: all metrics of the "
        "objective.",
    ),
    "neither a text nor a list": (
        ["data.source.train=3"],
        "data.source.train = 3: must be a string or a list. Give a string or a list: training data: a file, a glob, a "
        "folder or a list of these.",
    ),
    "list with a wrong item": (
        ["data.source.train=[moods.csv, 3]"],
        "data.source.train.1 = 3: must be a string. Give a string…",
    ),
    "true for a flag that is none": (
        ["strategies=[{kind: partial, biases: some}]"],
        "strategies.0.biases = 'some': must be true or false. Give true or false: train all bias terms.",
    ),
    "no section": (
        ["model=bert"],
        "model = 'bert': must be a section. Write its fields below it, such as base.",
    ),
    "no section, where there are kinds": (
        ["strategies=[full]"],
        "strategies.0 = 'full': must be a section. Write its fields below it, such as kind: full.",
    ),
    "section left empty": (
        ["training="],
        "training: has no value. Write its fields below it, such as batch_size.",
    ),
    "value left empty": (
        ["training.epochs="],
        "training.epochs: has no value. Give an integer: number of passes over the training data.",
    ),
    "number too small": (
        ["training.epochs=0"],
        "training.epochs = 0: must be greater than 0. Give a number greater than 0: number of passes over the "
        "training data.",
    ),
    "number too large": (
        ["data.max_unusable=1.5"],
        "data.max_unusable = 1.5: must be less than 1. Give a number less than 1: largest share of unusable rows "
        "allowed in a file; above it the run stops.",
    ),
    "number without end": (
        ["training.learning_rate=.inf"],
        "training.learning_rate = inf: must be a finite number. Give a finite number: peak learning rate; "
        "strategies scale it per parameter.",
    ),
    "name with a space": (
        ["name=my run"],
        "name = 'my run': has an invalid format. Give another: name of the run in Prefect and MLflow; letters, "
        "digits, dots, dashes and underscores.",
    ),
    "name too long": (
        ["name=" + "x" * 101],
        f"name = '{'x' * 101}': is too long. Give at most 100 characters…",
    ),
    "empty text": (
        ["model.base=''"],
        "model.base = '': is too short. Give at least 1 character…",
    ),
    "empty list": (
        ["strategies=[]"],
        "strategies = []: is too short. Give at least 1 item: which parameters are trained, and at which learning "
        "rates; applied in order.",
    ),
    "long value": (
        [f"seed=[{'1, ' * 50}]"],
        "seed = [1, 1, 1…...: must be an integer…",
    ),
    "unknown kind of strategy": (
        ["strategies=[{kind: ful}]"],
        f"strategies.0.kind = 'ful': unknown kind. Choose one of {STRATEGIES}.",
    ),
    "unknown kind of regularizer": (
        ["regularizers=[{kind: droppout}]"],
        f"regularizers.0.kind = 'droppout': unknown kind. Choose one of {REGULARIZERS}.",
    ),
    "unknown kind of objective": (
        ["objective.kind=classification"],
        f"objective.kind = 'classification': unknown kind. Choose one of {OBJECTIVES}.",
    ),
    "unknown kind of source": (
        ["data.source.kind=excel"],
        f"data.source.kind = 'excel': unknown kind. Choose one of {SOURCES}.",
    ),
    "strategy without a kind": (
        ["strategies=[{last_layers: 2}]"],
        f"strategies.0.kind: is required. Choose one of {STRATEGIES}.",
    ),
    "objective without a kind": (
        ["objective={}"],
        f"objective.kind: is required. Choose one of {OBJECTIVES}.",
    ),
    "source without a kind": (
        ["data.source={train: moods.csv}"],
        f"data.source.kind: is required. Choose one of {SOURCES}.",
    ),
    "missing field": (
        ["model={}"],
        "model.base: is required. Add it: a folder, a hub id such as `org/name`, or `package:NAME/folder` for a model "
        "inside a Python package.",
    ),
    "missing field of a source": (
        ["data.source={kind: csv}"],
        "data.source.train: is required. Add it: training data: a file, a glob, a folder or a list of these.",
    ),
    "unknown choice": (
        ["execution.precision=fp64"],
        "execution.precision = 'fp64': is not an allowed value. Choose one of 'auto', 'fp32', 'bf16' or 'fp16'.",
    ),
    "unknown baseline": (
        ["evaluation.baselines=[magic]"],
        "evaluation.baselines.0 = 'magic': is not an allowed value. "
        "Choose one of 'untrained', 'majority', 'bag_of_words' or 'copy'.",
    ),
    "source's own rule broken": (
        ["data.source.names=[a, a]"],
        "data.source.names = ['a', 'a']: the name 'a' appears more than once. Give another value: column names…",
    ),
    "source's own rule broken, by two fields": (
        ["data.source={kind: parallel, train: a.en, source_language: en, target_language: en}"],
        "data.source = {…...: source_language and target_language must be different… Change one of its fields.",
    ),
    # The recipe's file
    "recipe file missing": (
        ["nowhere.yaml"],
        "recipe = 'nowhere.yaml': cannot be read (No such file or directory). Give the path of a YAML file.",
    ),
    "no YAML": (
        ["broken.yaml"],
        "recipe = 'broken.yaml': is not valid YAML (line 2: expected ',' or ']', but got '<stream end>'). "
        "Fix the file there.",
    ),
    "no text at all": (
        ["binary.yaml"],
        "recipe = 'binary.yaml': cannot be read ('utf-8' codec can't decode byte…). Give the path of a YAML file.",
    ),
    "YAML with a control character": (
        ["control.yaml"],
        "recipe = 'control.yaml': is not valid YAML (…special characters are not allowed). Fix the file there.",
    ),
    "YAML that is not a mapping": (
        ["list.yaml"],
        "recipe = 'list.yaml': must be a mapping of fields. Start from one in deployments/recipes.",
    ),
    "empty recipe": (
        ["empty.yaml"],
        "recipe = 'empty.yaml': must be a mapping of fields. Start from one in deployments/recipes.",
    ),
    "section that stands twice": (
        ["twice.yaml"],
        "recipe = 'twice.yaml': is not valid YAML (line 3: 'training' appears twice). Fix the file there.",
    ),
    # Overrides
    "override without =": (
        ["training.epochs"],
        "override = 'training.epochs': must have the form path=value. Write, for example, training.epochs=5.",
    ),
    "override without a path": (
        ["=5"],
        "override = '=5': must have the form path=value. Write, for example, training.epochs=5.",
    ),
    "override with a gap in its path": (
        ["training..epochs=5"],
        "override = 'training..epochs=5': must have the form path=value. Write, for example, training.epochs=5.",
    ),
    "override that is not a YAML": (
        ["evaluation.metrics=[accuracy"],
        "override = 'evaluation.metrics=[accuracy': its value is not valid YAML (line 1: expected ',' or ']', but got "
        "'<stream end>'). Check its brackets, quotes and colons.",
    ),
    "override to an unknown path": (
        ["nothing.at.all=3"],
        f"nothing = {{'at': {{'all': 3}}}}: there is no such field. Known fields: {SECTIONS}.",
    ),
    "override below a value": (
        ["data.columns.text.size=3"],
        "override = 'data.columns.text.size=3': is not a field of this recipe. Check the path.",
    ),
    "override past the end of a list": (
        ["strategies=[{kind: full}]", "strategies.1.kind=full"],
        "override = 'strategies.1.kind=full': names an item of a list that has 1 item. The first item has the index 0.",
    ),
    # What does not go together
    "full and partial": (
        ["strategies=[{kind: full}, {kind: partial}]"],
        "strategies = [{'kind': 'full'}, {'kind': 'partial'}]: 'full' already trains everything that 'partial' "
        "selects. Remove one of them.",
    ),
    "full and layer norms": (
        ["strategies=[{kind: full}, {kind: ln_tuning}]"],
        "strategies = [{'kind': 'full'}, {'kind': 'ln_tuning'}]: 'full' already trains everything that 'ln_tuning' "
        "selects. Remove one of them.",
    ),
    "strategy that stands twice": (
        ["strategies=[{kind: full}, {kind: full}]"],
        "strategies = [{'kind': 'full'}, {'kind': 'full'}]: strategy 'full' appears 2 times. Keep one of them.",
    ),
    "regularizer that stands twice": (
        [f"regularizers=[{{{STOP}}}, {{{STOP}}}]"],
        "regularizers = [{'kind': 'early_stopping'}, {'kind': 'early_stopping'}]: regularizer 'early_stopping' appears "
        "2 times. Keep one of them.",
    ),
    "unknown metric": (
        ["evaluation.metrics=[accuracy, f1]"],
        "evaluation.metrics.1 = 'f1': is not a metric of this objective. Choose one of accuracy, macro_f1,…",
    ),
    "loss as a metric to report": (
        ["evaluation.metrics=[loss]"],
        "evaluation.metrics.0 = 'loss': is not a metric of this objective. Choose one of accuracy, macro_f1,…",
    ),
    "metric of another problem": (
        ["objective.problem_type=regression", "evaluation.metrics=[accuracy]"],
        "evaluation.metrics.0 = 'accuracy': is not a metric of this objective. Choose one of …rmse…",
    ),
    "unknown metric to watch": (
        [f"regularizers=[{{kind: weight_decay}}, {{{STOP}, metric: f1}}]"],
        "regularizers.1.metric = 'f1': is not a metric of this objective. Choose one of accuracy, macro_f1,…, loss.",
    ),
    "baselines for numbers": (
        ["objective.problem_type=regression", "evaluation.baselines=[majority]"],
        "evaluation.baselines.0 = 'majority': does not fit this objective. Choose one of untrained.",
    ),
    "baselines for several labels": (
        ["objective.problem_type=multi_label_classification", "evaluation.baselines=[bag_of_words]"],
        "evaluation.baselines.0 = 'bag_of_words': does not fit this objective. Choose one of untrained.",
    ),
    "level that is none": (
        ["data.checks={duplicates: off}"],
        "data.checks.duplicates = 'off': is not an allowed value. Choose one of 'ignore', 'warn' or 'error'.",
    ),
    "check that is none": (
        ["data.checks={duplicate: error}"],
        "data.checks.duplicate = 'error': there is no such field. Did you mean 'duplicates'?",
    ),
    "slice without a kind": (
        ["evaluation.slices=[{column: place}]"],
        "evaluation.slices.0.kind: is required. Choose one of column, length.",
    ),
    "slice by a column that is not there": (
        ["evaluation.slices=[{kind: length, edges: [9]}, {kind: column, column: place}]"],
        "evaluation.slices.1.column = 'place': is not a column of moods.csv. Choose one of text, mood.",
    ),
    "lengths that do not rise": (
        ["evaluation.slices=[{kind: length, edges: [20, 20]}]"],
        "evaluation.slices.0.edges = [20, 20]: must be strictly increasing. Give each length once, the smallest first.",
    ),
    "slices of blocks": (
        ["objective={kind: language_modeling, modeling: causal}", "evaluation.slices=[{kind: length, edges: [20]}]"],
        "evaluation.slices = ['length']: need a score for each row, but language_modeling scores blocks that span rows"
        ". Leave them out.",
    ),
    "nothing to watch": (
        [f"regularizers=[{{{STOP}}}]", "data.split.validation=0"],
        "data.split.validation = 0.0: leaves no validation rows for early_stopping. Set aside a share, name "
        "data.source.validation, or remove early_stopping.",
    ),
    "no share for test": (
        ["data.split.test=0"],
        "data.split.test = 0.0: leaves no test rows. Set aside a share, or name data.source.test.",
    ),
    "shares that take everything": (
        ["data.split={validation: 0.5, test: 0.6}"],
        "data.split = {'validation': 0.5, 'test': 0.6}: leaves no training rows. Set aside smaller shares.",
    ),
    "fp16 on a CPU": (
        ["execution.precision=fp16"],
        "execution.precision = 'fp16': needs a GPU, and execution.device is cpu. Choose bf16, fp32 or auto.",
    ),
    "cluster that nobody asks": (
        ["execution.cluster=tcp://10.0.0.7:8786"],
        "execution.cluster = 'tcp://10.0.0.7:8786': is not used, as execution.task_runner is processes. Choose ray or "
        "dask, or leave it out.",
    ),
    "machines that cannot meet": (
        ["execution.machines=2", "execution.store=s3://bucket/store"],
        "execution.machines = 2: needs execution.rendezvous, where the machines meet. Set it to an address of this "
        "machine and a free port, for example 10.0.0.1:29400.",
    ),
    "machines without a store that all can read": (
        ["execution.machines=2", "execution.rendezvous=10.0.0.1:29400", "execution.store=artifacts"],
        "execution.store = 'artifacts': is a folder, which the other machines of execution.machines = 2 cannot read. "
        "Set it to a URL, for example s3://bucket/prefix.",
    ),
    "rendezvous without a port": (
        ["execution.rendezvous=10.0.0.1"],
        "execution.rendezvous = '10.0.0.1': must be HOST:PORT. Write for example 10.0.0.1:29400.",
    ),
    # The base model
    "base that is not a folder": (
        ["model.base=no/such/folder"],
        "model.base = 'no/such/folder': no such folder. Set a folder, a hub id or package:NAME/folder.",
    ),
    "base out of the hub's reach": (
        ["model.base=some-org/some-model"],
        "model.base = 'some-org/some-model': is not a folder, and could not be downloaded from the hub (…). Check "
        "the spelling and the network, or set a folder.",
    ),
    "base in a package that is not installed": (
        ["model.base=package:no_such_package/model"],
        "model.base = 'package:no_such_package/model': no Python package 'no_such_package' is installed. Install it "
        "with pip (…)",
    ),
    "base without a config": (
        ["model.base=bare"],
        "model.base = '~/bare': has no config.json. Set the folder of a transformers model.",
    ),
    "base with pickled weights": (
        ["model.base=pickled"],
        "model.base = '~/pickled': has no *.safetensors weights. Convert the weights first: pickled weights are "
        "never loaded.",
    ),
    # Files and columns
    "file missing": (
        ["data.source.test=none.csv"],
        "data.source.test = '~/none.csv': no such file. Paths are relative to the recipe's folder; check the spelling.",
    ),
    "glob that matches nothing": (
        ["data.source.train=none-*.csv"],
        "data.source.train = '~/none-*.csv': no such file. Paths are relative to the recipe's folder; check the "
        "spelling.",
    ),
    "empty file": (
        ["data.source.train=empty.csv"],
        "data.source = '~/empty.csv': an empty file has no header. Fix the first line, or give `names` for a file "
        "without a header.",
    ),
    "file with a header alone": (
        ["data.source.validation=header.csv"],
        "data.source.validation = '~/header.csv': has no usable rows. Check the file and the source's kind.",
    ),
    "file of another kind": (
        ["data.source={kind: jsonl, train: moods.csv}"],
        "data.source.train = '~/moods.csv': has no usable rows (line 1: invalid JSON: …; line 2: invalid JSON: …; "
        "line 3: invalid JSON: …). Check the file and the source's kind.",
    ),
    "YAML that is no list": (
        ["data.source={kind: yaml, train: numbers.yaml}"],
        "data.source = '~/numbers.yaml': line 1 does not start an item of a YAML list. Write a list whose items start "
        "with `- `, one below the other, or set the correct `kind`.",
    ),
    "no such text column": (
        ["data.columns.text=body"],
        "data.columns.text = 'body': is not a column of moods.csv. Choose one of text, mood.",
    ),
    "no such label column": (
        ["data.columns.label=label"],
        "data.columns.label = 'label': is not a column of moods.csv. Choose one of text, mood.",
    ),
    "no such column for the second text": (
        ["data.columns.text_pair=reply"],
        "data.columns.text_pair = 'reply': is not a column of moods.csv. Choose one of text, mood.",
    ),
    "no such column to split by": (
        ["data.split.by=user"],
        "data.split.by = 'user': is not a column of moods.csv. Choose one of text, mood.",
    ),
    # Rows and labels
    "test data without any label of the training data": (
        ["data.source.test=strange.csv"],
        "data.columns.label = '0': appears in strange.csv (line 2), a file with none of the training labels. Use "
        "the same labels in all files; the training labels are glad, sad.",
    ),
    "one label only": (
        ["data.source.train=glad.csv"],
        "data.columns.label = 'mood': has only one label ('glad'). Choose the column with the labels to predict.",
    ),
    "no label in any row": (
        ["data.source={kind: jsonl, train: unlabelled.jsonl}", "objective.problem_type=multi_label_classification"],
        "data.columns.label = 'mood': has no labels. Choose the column with the labels to predict.",
    ),
    "empty validation": (
        ["data.split.validation=0.001"],
        "data.split.validation = 0.001: leaves no rows for validation. Set a larger share, or set "
        "data.source.validation.",
    ),
    "empty test": (
        ["data.split.test=0.001"],
        "data.split.test = 0.001: leaves no rows for test. Set a larger share, or set data.source.test.",
    ),
    "one group": (
        ["data.source.train=glad.csv", "data.split.by=mood"],
        "data.split.validation = 0.2: leaves no rows for validation. Split by a column with more distinct values, or "
        "set data.source.validation.",
    ),
    "too many unusable rows": (
        ["data.source.train=bad.csv"],
        "data.max_unusable = 0.01: 2 of 12 rows of bad.csv are unusable (line 12: no label; line 13: 1 field, but "
        "the header has 2). Fix the rows, or allow a larger share.",
    ),
    "labels that are no numbers": (
        ["objective.problem_type=regression"],
        "data.max_unusable = 0.01: 60 of 60 rows of moods.csv are unusable (line 2: label 'glad' is not a number; "
        "line 3: …; line 4: …). Fix the rows, or allow a larger share.",
    ),
    # The store
    "store of an unknown kind": (
        ["execution.store=nfs://me:secret@host/artifacts"],
        "execution.store = 'nfs://host/artifacts': cannot be opened (Protocol not known: nfs). Name a folder, or a URL "
        "such as s3://bucket/prefix.",
    ),
    "store that is a file": (
        ["execution.store=moods.csv"],
        "execution.store = 'moods.csv': is a file. Name a folder.",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_reported_in_one_clear_line_and_no_model_is_loaded(
    arguments, message, folder, no_model_may_load, tmp_path
):
    (error,) = tell(*arguments)
    assert re.fullmatch(pattern(message), error.replace(str(tmp_path), "~")), error
    own_words = re.sub(r"'[^']*'|\.\.\.", "…", error)
    assert not re.search(r"[.,:;!?] ?[.,:;!?]", own_words), error


def test_two_mistakes_are_both_reported(folder, no_model_may_load):
    first, second = tell("training.epochs=0", "strategies=[{kind: ful}]")
    assert {first.split(" = ")[0], second.split(" = ")[0]} == {"training.epochs", "strategies.0.kind"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("execution.device=cuda", "execution.device = 'cuda': there is no GPU that torch can use. Choose cpu or auto."),
        ("execution.precision=fp16", "execution.precision = 'fp16': needs a GPU. Choose bf16, fp32 or auto."),
    ],
)
def test_what_the_machine_lacks_is_reported_before_training(override, message, folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert tell("execution.device=auto", override) == [message]


def test_a_finding_that_the_recipe_calls_an_error_is_reported_before_training(folder):
    (error,) = tell("data.checks={balance: error}", "data.source.train=rare.csv")
    message = "data.checks.balance = 'error': 1 of 2 labels have fewer than 10 training rows: sad (…). Add rows with "
    assert re.fullmatch(pattern(f"{message}these labels, or merge labels (examples in …checks.json)"), error), error


@pytest.mark.parametrize("override", ["training.epochs=0", "data.columns.text=body", "evaluation.metrics=[f1]"])
def test_a_mistake_is_reported_before_anything_heavy_is_imported(override, folder):
    code = f"""if True:
        import sys
        from typer.testing import CliRunner
        from pipeline_lib.cli.main import app
        assert CliRunner().invoke(app, ["run", "recipe.yaml", {override!r}, "--plain"]).exit_code == 2
        print([name for name in ("torch", "transformers", "mlflow", "prefect", "pandas") if name in sys.modules])
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.fixture
def folder(document, tmp_path):
    """A folder with a good recipe, and all that a mistake needs; it is the working directory."""
    for name, text in {
        "recipe.yaml": yaml.safe_dump(document),
        "numbers.yaml": "1: one\n" + yaml.safe_dump(document),
        "broken.yaml": "name: broken\ndata: [1",
        "control.yaml": "name: \0",
        "list.yaml": "- name: list",
        "empty.yaml": "",
        "twice.yaml": "training: {epochs: 3}\nname: twice\ntraining: {epochs: 4}\n",
        "empty.csv": "",
        "header.csv": "text,mood\n",
        "strange.csv": "text,mood\ni am happy,0\n",
        "angry.csv": "text,mood\ni am happy,glad\ni am angry,a\n",  # "a" stands in "glad" and is not that label
        "glad.csv": "text,mood\n" + "".join(f"day {day},glad\n" for day in range(20)),
        "bad.csv": "text,mood\n" + "".join(f"day {day},glad\n" for day in range(10)) + "day 10,\nday 11\n",
        "unlabelled.jsonl": "".join(f'{{"text": "day {day}", "mood": []}}\n' for day in range(20)),
        "rare.csv": "text,mood\n" + "".join(f"day {day},{'glad' if day % 6 else 'sad'}\n" for day in range(48)),
        "bare/weights.txt": "",
        "pickled/config.json": "{}",
        "pickled/pytorch_model.bin": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    return tmp_path


@pytest.fixture
def no_model_may_load(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(TextClassification, "model", refuse)


def tell(*arguments):
    """The errors of a run that must end with status 2 and without a traceback; what it logs has the time before it."""
    recipe, *overrides = arguments if arguments[0].endswith(".yaml") else ["recipe.yaml", *arguments]
    result = CliRunner().invoke(app, ["run", recipe, *overrides, "--plain"])
    assert result.exit_code == 2, result.exception
    assert "Traceback" not in result.output
    return [line for line in result.stderr.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)]


def pattern(message):
    return re.escape(message).replace("…", ".*")
