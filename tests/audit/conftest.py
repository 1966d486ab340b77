"""One run that is looked into, made once a file."""

import pytest
import yaml
from mlflow.tracking import MlflowClient

from pipeline_lib.audit.audit import audit_trainings
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.loading import load
from pipeline_lib.tracking.search import TrainingSearch


class Ran:
    """One run of a recipe file, its place and its runs in MLflow by name."""

    def __init__(self, folder, uri):
        self.folder, self.uri = folder, uri
        self.recipe = load(folder / "moods.yaml", ["training.epochs=2"])
        self.outcome = run(self.recipe)
        self.client = MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name(folder.name).experiment_id
        self.ids = {run.info.run_name: run.info.run_id for run in self.client.search_runs([self.experiment])}

    def audit(self, target=None, with_repair=False):
        return audit_trainings(self.uri, target, self.folder.name, None, with_repair)

    def held(self):
        """What MLflow holds, read anew: a test may change it."""
        return TrainingSearch(self.uri).find_training(self.ids["moods training"])

    def words(self):
        """What disagrees, as sentences."""
        report = self.audit(self.ids["moods training"])
        return [f"{finding.about}: {finding.what}" for findings in report.found for finding in findings if finding.sure]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_bert, tracking_uri):
    folder = tmp_path_factory.mktemp("audited")
    texts = {"glad": ["a fine day", "the sun is warm", "we laughed"], "sad": ["it rains", "nobody came", "a long wait"]}
    rows = [
        f"{text} {at},{mood}\n"
        for mood, texts_of_mood in texts.items()
        for text in texts_of_mood
        for at in ["home", "sea", "town"]
    ]
    (folder / "moods.csv").write_text("text,mood\n" + "".join(rows))
    document = {
        "name": "moods",
        "data": {
            "source": {"kind": "csv", "train": "moods.csv"},
            "columns": {"text": "text", "label": "mood"},
            "split": {"validation": 0.2, "test": 0.3},
        },
        "model": {"base": str(tiny_bert)},
        "objective": {"kind": "text_classification"},
        "training": {"epochs": 1, "learning_rate": 5e-3, "batch_size": 4},
        "execution": {
            "store": str(folder / "store"),
            "tracking_uri": tracking_uri,
            "experiment": folder.name,
            "device": "cpu",
            "precision": "fp32",
            "watts": 500,
            "cost_per_hour": 2,
        },
    }
    (folder / "moods.yaml").write_text(yaml.safe_dump(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Ran(folder, tracking_uri)
