"""Cut rows and labels, counted by hand. `pytest tests/checks/test_rows.py`."""

import pyarrow as pa

from pipeline_lib.checks.labels import balance, missing_labels, rows_of_labels
from pipeline_lib.checks.truncation import find_truncated_splits, truncated_rows
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.objectives import CausalLM, QuestionAnswering, Seq2Seq, TextClassification

WORDS = ["what", "a", "fine", "day", "i", "love", "this", "tea"]


def table(objective, tokenizer, rows):
    """Rows as they stand in a shard."""
    columns = objective.encode(tokenizer, rows)
    schema = pa.schema(objective.arrow_schema())
    columns |= {name: [row.get(name) for row in rows] for name in schema.names if name not in columns}
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    return table.append_column("file", pa.array(["some.csv"] * len(rows))).append_column(
        "line", pa.array([row + 2 for row in range(len(rows))])
    )


def test_only_rows_that_lose_something_are_cut(tiny):
    objective, tokenizer = TextClassification(kind="text_classification", max_length=6), load_tokenizer(tiny["bert"])
    rows = [{"text": " ".join(WORDS[:length]), "label": "glad"} for length in (3, 4, 5, 8)]  # and two special tokens
    read = table(objective, tokenizer, rows)
    assert truncated_rows(read, objective, tokenizer).tolist() == [2, 3]
    assert tokenizer.model_max_length == 64
    (found,) = find_truncated_splits({"train": read.slice(0, 2), "test": read}, objective, tokenizer)
    assert (found.split, found.count, found.of) == ("test", 2, 4)
    assert found.examples == [{"file": "some.csv", "line": 4}, {"file": "some.csv", "line": 5}]
    assert found.hint.startswith("Raise objective.max_length")


def test_the_models_own_limit_cuts_too(tiny):
    objective, tokenizer = TextClassification(kind="text_classification"), load_tokenizer(tiny["bert"])
    rows = [{"text": " ".join(["day"] * length), "label": "glad"} for length in (62, 63)]
    assert truncated_rows(table(objective, tokenizer, rows), objective, tokenizer).tolist() == [1]


def test_a_target_is_cut_like_a_source_and_a_dialogue_at_its_beginning(tiny):
    objective, tokenizer = Seq2Seq(kind="seq2seq", max_source=6, max_target=4), load_tokenizer(tiny["t5"])
    long, short = " ".join(WORDS), " ".join(WORDS[:2])
    rows = [{"source": source, "target": [target]} for source in (short, long) for target in (short, long)]
    assert truncated_rows(table(objective, tokenizer, rows), objective, tokenizer).tolist() == [1, 2, 3]
    said, decoder = CausalLM(kind="causal_lm", max_length=8), load_tokenizer(tiny["gpt2"])
    turns = [[{"role": "user", "content": short}, {"role": "assistant", "content": text}] for text in (short, long)]
    assert truncated_rows(table(said, decoder, [{"messages": turn} for turn in turns]), said, decoder).tolist() == [1]


def test_long_contexts_are_read_in_windows(tiny):
    objective, tokenizer = QuestionAnswering(kind="question_answering", max_length=16), load_tokenizer(tiny["bert"])
    row = {"question": "what day", "context": " ".join(WORDS * 3), "answers": [], "starts": []}
    assert not len(truncated_rows(table(objective, tokenizer, [row]), objective, tokenizer))


def labelled(**counts):
    return pa.table({"label": pa.array([label for label, count in counts.items() for _ in range(count)], pa.string())})


def test_rare_labels_and_one_for_nearly_all():
    labels = ["calm", "glad", "sad"]
    (rare,) = balance({"train": labelled(glad=95, sad=9, calm=2)}, "label", labels)  # 95 of 106 are less than 9 in 10
    assert rare.problem == "2 of 3 labels have fewer than 10 training rows: calm (2), sad (9)"
    assert (rare.count, rare.of, rare.split) == (2, 3, "train")
    (most,) = balance({"train": labelled(glad=90, sad=10)}, "label", ["glad", "sad"])
    assert (most.count, most.of) == (90, 100) and "'glad'" in most.problem
    assert not [*balance({"train": labelled(glad=89, sad=11)}, "label", ["glad", "sad"])]


def test_a_row_has_each_of_its_tags_once():
    tags = pa.table({"tags": [["O", "B-who", "O"], ["O"], ["B-where", "B-where"]]})
    assert rows_of_labels(tags, "tags") == {"O": 2, "B-who": 1, "B-where": 1}
    splits = {"train": pa.table({"tags": [["O"]] * 30 + [["O", "B-who"]] * 10})}
    assert not [*balance(splits, "tags", ["B-who", "O"])], "that most words are outside is not a news"


def test_labels_that_a_split_lacks():
    splits = {"train": labelled(glad=5, sad=5), "validation": labelled(sad=2), "test": labelled(glad=1, sad=1)}
    (found,) = missing_labels(splits, "label", ["glad", "sad"])
    assert (found.split, found.problem) == ("validation", "1 of 2 labels have no validation row: glad")
    assert not [*missing_labels(splits | {"validation": labelled()}, "label", ["glad", "sad"])]
