"""What the tests share: a tiny model made on the spot, a small data set of ours, and a recipe over both."""

import csv
import gc
import os
import shutil
import signal
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads would only wait for one another
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import pytest

sys.path.append(str(Path(__file__).parent))  # for mlflow_server: tests are imported by their files, not as a package

from mlflow_server import MlflowServer
from s3_server import bucket, s3_server  # noqa: F401  fixtures

from pipeline_lib.recipe.schema import check

gc.set_threshold(10_000)  # as the command line does

MOODS = {
    "glad": ["what a fine day", "i love this tea", "the sun is warm and kind", "we laughed all night", "a sweet song"],
    "sad": [
        "it rains on my shoes",
        "i lost the game again",
        "nobody came to dinner",
        "the soup is cold",
        "a long wait",
    ],
}
LEARNING = {
    "regularizers": [{"kind": "dropout", "value": 0.0}],
    "training": {"epochs": 12, "learning_rate": 8e-3, "batch_size": 4},
}
"""How the tiny BERT learns the moods in two seconds: 0.92 of the test rows are right. `document` learns little."""
PLACES = ["at home", "in town", "by the sea", "near the mill", "on the train", "with my sister"]


def pytest_collection_finish():
    """Leave what was imported alone: pytest collects garbage at its end, five times."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """Let SIGINT interrupt, as in a terminal: a shell without job control starts what ends in `&` with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def impatient():
    """Wait a second, not half a minute, for an MLflow that is down: no test starts it meanwhile."""
    from pipeline_lib.tracking import availability

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(availability, "WAIT", 1.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def undrawn():
    """Draw no figures, which is a quarter of the work of a tiny run. Yields the method that draws, for `drawn`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cbook import open_file_cm

    def write_signature(canvas, file, **_):
        with open_file_cm(file, "wb") as png:
            png.write(b"\x89PNG\r\n\x1a\n")

    draw = FigureCanvasAgg.print_png
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "print_png", write_signature)
        yield draw


@pytest.fixture
def drawn(undrawn, monkeypatch):
    """Draw figures in this test: drawing is what finds most mistakes in them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    monkeypatch.setattr(FigureCanvasAgg, "print_png", undrawn)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a two-layer BERT of random weights and a word-level tokenizer; a second to make."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    words = sorted(
        {word for texts in MOODS.values() for text in texts for word in text.split()} | set(" ".join(PLACES).split())
    )
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folders by family (bert, gpt2, llama, t5) with two-layer models of random weights, one vocabulary for all."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    size = len(word_tokenizer("bert"))
    marks = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    shape = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    inner = {"intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.1}
    short = {"vocab_size": size, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.1}
    t5 = {"vocab_size": size, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    models = {
        "bert": hf.BertForMaskedLM(hf.BertConfig(**shape, **inner, pad_token_id=0)),
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(**short, **marks)),
        "llama": hf.LlamaForCausalLM(hf.LlamaConfig(**shape, **inner, **marks)),
        "t5": hf.T5ForConditionalGeneration(
            hf.T5Config(**t5, decoder_start_token_id=0, pad_token_id=0, eos_token_id=3)
        ),
    }
    folders = {}
    for family, model in models.items():
        folders[family] = tmp_path_factory.mktemp(f"tiny-{family}")
        model.save_pretrained(folders[family])
        word_tokenizer(family).save_pretrained(folders[family])
    return folders


def word_tokenizer(family):
    """Words and characters; [CLS] and [SEP] around a text for BERT and RoBERTa, [SEP] after it for T5, else nothing."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted(
        {word for texts in MOODS.values() for text in texts for word in text.split()} | set(" ".join(PLACES))
    )
    words += sorted(set(" ".join(PLACES).split()) - set(words))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"<extra_id_{index}>" for index in range(100))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    ends = {"bert": "[CLS] $A [SEP]", "roberta": "[CLS] $A [SEP]", "t5": "$A [SEP]"}.get(family, "$A")
    pairs = {
        "bert": "[CLS] $A [SEP] $B:1 [SEP]:1",
        "roberta": "[CLS] $A [SEP] [SEP] $B [SEP]",
        "t5": "$A [SEP] $B [SEP]",
    }.get(family, "$A $B")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=ends, pair=pairs, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    names |= (
        {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        if family in ("bert", "roberta")
        else {"eos_token": "[SEP]"} | ({} if family == "t5" else {"bos_token": "[CLS]"})
    )
    extra = [f"<extra_id_{index}>" for index in range(100)] if family == "t5" else []
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, additional_special_tokens=extra, **names
    )


@pytest.fixture
def moods_csv(tmp_path):
    """60 rows of text and mood, as a file that a test may change."""
    return write_moods(tmp_path / "moods.csv")


def write_moods(path):
    rows = [(f"{text} {place}", mood) for mood, texts in MOODS.items() for text in texts for place in PLACES]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "mood"), *rows])
    return path


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory):
    """One MLflow for all tests: making its tables takes seconds. Runs are told apart by their experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """A real MLflow server that proxies artifacts, one for all tests. Leave it running: outages need a server of
    their own."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow-server")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_server_without_artifacts(tmp_path_factory):
    """The same with `--no-serve-artifacts`: clients write artifacts to its folder themselves."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow-server-plain"), serve_artifacts=False) as server:
        yield server


@pytest.fixture
def document(tmp_path, tiny_bert, moods_csv, tracking_uri, monkeypatch):
    """A recipe as plain data, complete and quick, for a test to change."""
    monkeypatch.chdir(tmp_path)  # MLflow writes its artifacts into the working directory
    return moods_recipe(tmp_path, tiny_bert, moods_csv, tracking_uri)


def moods_recipe(folder, base, rows, tracking_uri):
    """The recipe of `document`, for runs that tests share: store and experiment are those of the folder."""
    return {
        "name": "moods",
        "data": {
            "source": {"kind": "csv", "train": str(rows)},
            "columns": {"text": "text", "label": "mood"},
            "split": {"validation": 0.2, "test": 0.2},
        },
        "model": {"base": str(base)},
        "objective": {"kind": "text_classification"},
        "training": {"epochs": 6, "learning_rate": 5e-3, "batch_size": 4},
        "execution": {
            "store": str(folder / "store"),
            "tracking_uri": tracking_uri,
            "experiment": folder.name,
            "device": "cpu",
            "precision": "fp32",
        },
    }


@pytest.fixture
def unpublished(monkeypatch):
    """Send nothing to MLflow, which is a third of a tiny run: for tests of what is computed."""
    send_nothing(monkeypatch)


def send_nothing(patch):
    from pipeline_lib.pipeline import steps
    from pipeline_lib.tracking.live_run import LiveRun

    patch.setattr(LiveRun, "_work", lambda _: None)
    patch.setattr(steps, "publish", lambda *_, **__: {})


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_bert, tracking_uri):
    """The store of one run of `document`, made once, of which MLflow knows nothing."""
    from pipeline_lib.pipeline.run import run

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        send_nothing(patch)
        run(check(moods_recipe(folder, tiny_bert, write_moods(folder / "moods.csv"), tracking_uri)))
    return folder / "store"


@pytest.fixture
def ran(document, finished):
    """`document`, of which the store has a run."""
    shutil.copytree(finished, document["execution"]["store"])
    return document


@pytest.fixture
def recipe(document):
    """The same, checked."""
    return check(document)
