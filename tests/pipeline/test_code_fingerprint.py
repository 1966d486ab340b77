"""The identity of code: what a step runs counts, and nothing else does.

pytest tests/pipeline/test_code_fingerprint.py
"""

import ast
import os
import shutil
import subprocess
import sys
from itertools import count
from textwrap import dedent

import pytest

from pipeline_lib.pipeline.code_fingerprint import (
    NEVER,
    PACKAGE,
    SCOPES,
    code_digest,
    find_modules,
    module_digests,
    step_code,
    step_scope,
)
from pipeline_lib.recipe.schema import check

SMALL = {
    "__init__.py": '"""A package."""\n',
    "step.py": """
        from typing import TYPE_CHECKING

        import numpy_that_is_not_there
        from box import tools
        from box.tools import lift, press

        if TYPE_CHECKING:
            from box import shapes

        def make():
            from .far.helper import help
            return help(1)
    """,
    "tools/__init__.py": "from box.tools.press import press\nlift = 1\n",
    "tools/press.py": "press = 2\n",
    "far/__init__.py": "",
    "far/helper.py": 'class Helper:\n    size: int = 1\n\n\ndef help(x):\n    return f"{x!r:>4} é {x + 1}"\n',
    "shapes.py": "round = 3\n",
    "unused.py": "spare = 4\n",
}


@pytest.fixture
def box(tmp_path):
    """Writes the small package, with some files changed, into a folder of its own: a file is read once in a process."""
    numbers = count()

    def write(changed=None):
        root = tmp_path / str(next(numbers)) / "box"
        for name, text in (SMALL | (changed or {})).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(dedent(text), encoding="utf-8")
        return root

    return write


def digest(root, without=()):
    return code_digest(["box.step"], without, root)


def test_imports_are_followed_wherever_they_stand(box):
    whole = ["box", "box.far", "box.far.helper", "box.step", "box.tools", "box.tools.press"]
    assert find_modules(["box.step"], root=box()) == whole


def test_what_type_checkers_alone_import_is_not_followed(box):
    step = "import typing\nif typing.TYPE_CHECKING:\n    import box.shapes\nelse:\n    import box.unused\n"
    assert find_modules(["box.step"], root=box({"step.py": step})) == ["box", "box.step", "box.unused"]


def test_every_form_of_an_import_counts_the_packages_on_the_way(box):
    whole = ["box", "box.far", "box.far.helper", "box.step"]
    for line in ("import box.far.helper as h", "from box.far import helper", "from .far.helper import *"):
        assert find_modules(["box.step"], root=box({"step.py": line})) == whole
    root = box({"far/helper.py": "from . import other\nfrom ..shapes import round", "far/other.py": "x = 1"})
    assert find_modules(["box.far.helper"], root=root) == [
        "box",
        "box.far",
        "box.far.helper",
        "box.far.other",
        "box.shapes",
    ]


@pytest.mark.parametrize(
    "without, left",
    [
        (["box.tools"], ["box", "box.far", "box.far.helper", "box.step"]),
        (["box.tools.__init__"], ["box", "box.far", "box.far.helper", "box.step", "box.tools.press"]),
        (["box.far", "box.tools"], ["box", "box.step"]),
        (["box.too"], ["box", "box.far", "box.far.helper", "box.step", "box.tools", "box.tools.press"]),
    ],
)
def test_what_is_left_out_is_not_followed(box, without, left):
    root = box({"step.py": "from box.tools import press\nfrom box.far import helper\n"})
    assert find_modules(["box.step"], without, root) == left


def test_an_entry_counts_though_its_package_is_left_out(box):
    entries, without = ["box.step", "box.far.helper"], ["box.far", "box.tools"]
    assert find_modules(entries, without, box()) == ["box", "box.far.helper", "box.step"]


def test_a_missing_module_is_named_with_its_importer(box):
    with pytest.raises(ModuleNotFoundError, match=r"^box\.far\.helper imports box\.gone, and there is no such module$"):
        digest(box({"far/helper.py": "def help():\n    from box.gone import it\n"}))
    with pytest.raises(ModuleNotFoundError, match=r"^an entry imports box\.nothing"):
        find_modules(["box.nothing"], root=box())
    assert digest(box({"far/helper.py": "from box.gone import it"}), ["box.gone"])


def test_a_modules_template_is_part_of_its_code(box):
    page = {"far/helper.html.jinja": "<p>{{ x }}</p>"}
    assert digest(box(page)) != digest(box())
    assert digest(box(page)) != digest(box({"far/helper.html.jinja": "<b>{{ x }}</b>"}))
    assert digest(box({"far/helpers.html.jinja": "<p>{{ x }}</p>"})) == digest(box())


SAME = {
    "a comment": "# new\nclass Helper:  # new\n    size: int = 1\n\ndef help(x):\n    # new\n    return {}\n",
    "docstrings": '"""M."""\nclass Helper:\n    """C."""\n    size: int = 1\n    """A."""\n'
    'def help(x):\n    """F."""\n    return {}\n',
    "layout": "class Helper:\n  size: int = (\n    1\n  )\n\n\n\ndef help(\n    x,\n):\n        return (\n {} )\n",
    "types": "if TYPE_CHECKING:\n    import box.gone\nclass Helper:\n    size: int = 1\ndef help(x):\n    return {}\n",
}


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_run_does_not_count(box, change):
    changed = SAME[change].format("f'{x!r:>4} é {x + 1}'")
    assert digest(box({"far/helper.py": changed})) == digest(box())


@pytest.mark.parametrize(
    "place, text, same",
    [
        ("far/helper.py", SMALL["far/helper.py"].replace("+ 1", "+ 2"), False),
        ("far/helper.py", SMALL["far/helper.py"].replace("size: int", "size: float"), False),
        ("far/__init__.py", "import os\n", False),
        ("unused.py", "spare = 5\n", True),
        ("shapes.py", "round = 5\n", True),
    ],
)
def test_a_change_counts_where_it_is_reached(box, place, text, same):
    assert (digest(box({place: text})) == digest(box())) is same


def test_a_module_counts_by_its_name_too(box):
    one = box({"far/__init__.py": "x = 1", "far/helper.py": ""})
    other = box({"far/__init__.py": "", "far/helper.py": "x = 1"})
    assert digest(one) != digest(other)


def test_the_digest_is_the_same_everywhere(box):
    """By another process, another hash seed, another folder and, as the value is written here, another Python."""
    root = box()
    assert digest(root) == "be66a8bd146b0eb9e1a855c98c1668c37aed1a08d097a6caa3280a5aaf549f40"
    program = (
        "import sys, pathlib; from pipeline_lib.pipeline.code_fingerprint import code_digest;"
        "print(code_digest(['box.step'], root=pathlib.Path(sys.argv[1])));"
        "print(sorted({'torch', 'pydantic', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(box())],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
        env=os.environ | {"PYTHONHASHSEED": "5"},
    )
    assert done.stdout.split("\n")[:2] == [digest(root), "[]"]


def recipe_of(**changed):
    return check(
        {
            "name": "moods",
            "data": {"source": {"kind": "csv", "train": "moods.csv"}},
            "model": {"base": "org/base"},
            "objective": {"kind": "text_classification"},
            "regularizers": [{"kind": "weight_decay", "value": 0.01}],
        }
        | changed
    )


FULL, LORA = recipe_of(), recipe_of(strategies=[{"kind": "lora"}])
PROMPT = recipe_of(strategies=[{"kind": "prompt", "length": 4}])
NF4 = recipe_of(strategies=[{"kind": "lora"}], model={"base": "base", "quantization": {"kind": "nf4"}})


def changed_copy(folder, file):
    """The package with one line more in a file."""
    root = folder / PACKAGE.name
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    with (root / file).open("a", encoding="utf-8") as changed:
        changed.write("\nCHANGED = True\n")
    return root


STEPS = "shard prepare initialise checks features finetune columns evaluate"
ALL = "shard prepare initialise checks features finetune evaluate"
TRAINED = "initialise checks finetune evaluate"
LOADED = "initialise checks features finetune evaluate"


@pytest.mark.parametrize(
    "recipe, file, again",
    [
        (FULL, "strategies/full.py", TRAINED),
        (FULL, "strategies/base.py", TRAINED),
        (FULL, "strategies/lora.py", ""),
        (FULL, "strategies/peft_adapter.py", ""),
        (LORA, "strategies/lora.py", TRAINED),
        (LORA, "strategies/peft_adapter.py", TRAINED),
        (LORA, "models/blocks.py", LOADED),
        (
            LORA,
            "models/families.py",
            LOADED.replace("features ", ""),
        ),  # strategies alone reach it, and features do not depend on them
        (LORA, "strategies/full.py", ""),
        (PROMPT, "strategies/prompt_tokens.py", TRAINED),
        (LORA, "models/quantized_weights.py", ""),
        (LORA, "models/quantization/nf4.py", ""),
        (NF4, "models/quantized_weights.py", LOADED),
        (NF4, "models/quantization/nf4.py", LOADED),
        (NF4, "models/quantization/int8.py", ""),
        (FULL, "strategies/__init__.py", ""),
        (FULL, "optimizers/adamw.py", "finetune"),
        (FULL, "optimizers/base.py", "checks finetune"),
        (FULL, "optimizers/muon.py", ""),
        (FULL, "regularizers/weight_decay.py", "finetune"),
        (FULL, "regularizers/base.py", "finetune"),
        (FULL, "regularizers/mixout.py", ""),
        (FULL, "objectives/text_classification.py", ALL),
        (FULL, "objectives/cloze.py", ALL),
        (FULL, "objectives/seq2seq.py", ""),
        (FULL, "objectives/__init__.py", ""),
        (FULL, "data/sources/csv.py", "shard columns"),
        (FULL, "data/sources/base.py", "shard columns"),
        (FULL, "data/sources/json.py", ""),
        (FULL, "data/sources/__init__.py", ""),
        (FULL, "data/shards.py", "shard"),
        (FULL, "data/splits.py", "prepare"),
        (FULL, "models/building.py", LOADED),
        (FULL, "training/loop.py", "finetune"),
        (FULL, "training/batches.py", "checks features finetune evaluate"),
        (FULL, "training/frozen_backbone/backbone.py", "features finetune"),
        (FULL, "training/frozen_backbone/layers.py", "finetune"),
        (FULL, "checks/labels.py", "checks"),
        (FULL, "evaluation/predict.py", "finetune evaluate"),
        (FULL, "evaluation/metrics/classification.py", "evaluate"),
        (FULL, "evaluation/predictions.py", "evaluate"),
        (FULL, "evaluation/report/page.py", "evaluate"),
        (FULL, "evaluation/metrics/spans.py", ""),
        (FULL, "recipe/schema.py", ""),
        (FULL, "pipeline/steps.py", ""),
        (FULL, "store/store.py", ""),
        (FULL, "util/progress_bar.py", ""),
        (FULL, "tracking/publish.py", ""),
        (FULL, "__init__.py", ""),
        (FULL, "util/temporary.py", ""),
        (FULL, "cli/main.py", ""),
    ],
)
def test_a_changed_file_makes_again_the_steps_that_run_it(tmp_path, recipe, file, again):
    root = changed_copy(tmp_path, file)
    assert [step for step in STEPS.split() if step_code(step, recipe, root) != step_code(step, recipe)] == again.split()


@pytest.mark.parametrize(
    "file, again",
    [
        ("retrain/profile.py", "profile"),
        ("retrain/embeddings.py", "profile"),
        ("retrain/rescore.py", "rescore"),
        ("sweep/comparison.py", "sweep"),
        ("sweep/figure.py", "sweep"),
        ("evaluation/statistics/bootstrap.py", "evaluate sweep"),
        ("evaluation/predictor.py", "evaluate rescore"),
        ("retrain/retrain.py", ""),
        ("retrain/gate_checks.py", ""),
        ("cli/compare.py", ""),
    ],
)
def test_what_comes_after_a_run_makes_no_step_of_a_run_again(tmp_path, file, again):
    root = changed_copy(tmp_path, file)
    assert [step for step in SCOPES if step_code(step, FULL, root) != step_code(step, FULL)] == again.split()


def test_the_digests_of_modules_tell_which_one_changed(box):
    before, after = (module_digests(["box.step"], root=root) for root in (box(), box({"far/helper.py": "help = str"})))
    assert [name for name in before if before[name] != after[name]] == ["box.far.helper"]


def test_a_part_of_the_recipe_is_an_entry():
    entries, _ = step_scope("finetune", LORA)
    assert {"pipeline_lib.strategies.lora", "pipeline_lib.regularizers.weight_decay"} <= set(entries)
    assert "pipeline_lib.strategies.full" not in find_modules(*step_scope("finetune", LORA))


def test_every_name_in_the_scopes_is_a_module():
    for name in (*NEVER, *(name for scope in SCOPES.values() for name in (*scope.entries, *scope.without))):
        place = PACKAGE / name.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__init__.py").exists(), name


def test_steps_after_shard_take_only_names_of_files_from_the_module_that_they_leave_out():
    for file in set(PACKAGE.rglob("*.py")) - {
        PACKAGE / "pipeline/steps.py",
        PACKAGE / "pipeline" / "input_checks.py",
        PACKAGE / "data" / "encoding.py",
    }:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                taken = {f"{getattr(node, 'module', '')}.{alias.name}" for alias in node.names}
                taken = {name.rpartition("pipeline_lib.data.shards")[2] for name in taken if "data.shards" in name}
                assert taken <= {".ROWS", ".UNUSABLE", ".FILES"}, file
