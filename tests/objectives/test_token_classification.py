"""Labels for words: alignment with tokens, whole runs on every family. `pytest tests/objectives`."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.objectives import TokenClassification

OBJECTIVE = TokenClassification(kind="token_classification")
PLACES = {"at": "B-place", "home": "I-place", "in": "B-place", "town": "I-place"}
SENTENCES = ["what a fine day", "i lost the game", "the soup is cold", "we laughed", "a sweet song", "i love this tea"]


def rows():
    """Sentences that end in a place of two words, or in none."""
    for sentence in SENTENCES:
        for place in ("at home", "in town", ""):
            for again in ("", "again", "the", "sun", "is"):
                words = f"{sentence} {again} {place}".split()
                yield {"tokens": words, "tags": [PLACES.get(word, "O") for word in words]}


def test_a_words_first_token_carries_its_label(tmp_path):
    """A tokenizer that cuts words in two, and one that counts the space before a word to it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "tea": 1, "##pot": 2, "a": 3}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    spaced = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0), ("\u2581tea", -1.0), ("pot", -1.0)], unk_id=0)
    )
    spaced.pre_tokenizer = pre_tokenizers.Metaspace()
    from transformers import PreTrainedTokenizerFast

    for tokenizer in (pieces, spaced):
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=9)
        encoded = OBJECTIVE.encode(fast, [{"tokens": ["a", "teapot", "a"]}])
        assert encoded["words"] == [[0, 1, -1, 2]]


def test_targets_stand_at_first_tokens_only(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    row = {"tokens": ["at", "home"], "tags": ["B-place", "I-place"]}
    table = pa.table(
        {
            name: pa.array(column)
            for name, column in (OBJECTIVE.encode(tokenizer, [row]) | {"tags": [row["tags"]]}).items()
        }
    )
    encoded = OBJECTIVE.features(table, ["B-place", "I-place", "O"])
    assert encoded.targets.values.tolist() == [-100, 0, 1, -100]
    assert encoded.units.tolist() == [2]


@pytest.mark.parametrize("tags", [["O", "B-x"], "O B-x", "['O', 'B-x']", '["O", "B-x"]'])
def test_words_may_be_spelled_as_text(tags):
    clean = TokenClassification(kind="token_classification").clean({"tokens": "a 3", "tags": tags})
    assert clean == {"tokens": ["a", "3"], "tags": ["O", "B-x"]}


@pytest.mark.parametrize("token", [None, True, ["a"], {"a": 1}])
def test_a_token_that_is_no_word_makes_the_row_unusable(token):
    with pytest.raises(ValueError, match="token is .*not text"):
        TokenClassification(kind="token_classification").clean({"tokens": [token], "tags": ["O"]})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": "no list", "tags": ["O"]}, "not a list of words"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens, but a different number of tags"),
        ({"tokens": [], "tags": []}, "not a list of words"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row, reason):
    with pytest.raises(ValueError, match=reason):
        OBJECTIVE.clean(row)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_places_are_learned(trained, family):
    outcome, scores = trained(list(rows()), family, {"kind": "token_classification"})
    assert scores["span_f1"] > 0.9
    predictions = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    assert all(len(row["prediction"]) == len(row["tokens"]) for row in predictions)
    answers = LoadedModel(outcome.model.folder / "model").answer([{"tokens": row["tokens"]} for row in predictions])
    assert answers["prediction"] == [row["prediction"] for row in predictions]


def test_words_beyond_the_longest_input_are_outside(trained):
    objective = {"kind": "token_classification", "max_length": 4}
    outcome, _ = trained(list(rows()), "bert", objective, training={"epochs": 1})
    predictions = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    assert all(set(row["prediction"][2:]) <= {"O"} for row in predictions)


def test_chinese_characters_are_words(tmp_path, tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    encoded = OBJECTIVE.encode(tokenizer, [{"tokens": list("我在北京")}])
    assert encoded["words"] == [[-1, 0, 1, 2, 3, -1]]
