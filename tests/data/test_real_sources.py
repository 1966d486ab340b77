"""Every real data set of ../shared/data is read by the fitting source, to the row; none of them has an unusable row.

python -m pytest tests/data/test_real_sources.py
"""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from pipeline_lib.data.sources import Row, Source

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not in {DATA}")

TSV_NAMES = {"kind": "tsv", "names": ["text", "label"]}
EN_DE = {"kind": "parallel", "source_language": "en", "target_language": "de"}
EN_FR = {"kind": "parallel", "source_language": "en", "target_language": "fr"}
BANKING, SST2, WNUT = ["text", "category"], ["sentence", "label"], ["tokens", "tags"]
RTE = ["index", "sentence1", "sentence2", "label"]
SQUAD = ["id", "title", "context", "question", "answers", "is_impossible"]
SCITLDR = ["source", "source_labels", "rouge_scores", "paper_id", "target", "title"]
INSTRUCT = ["instruction", "input", "output"]
PREFERENCE = [*INSTRUCT, "rejected", "chosen"]

SETS = [
    ("banking77/train.csv", {"kind": "csv"}, 10_003, BANKING),
    ("banking77/test.csv", {"kind": "csv"}, 3_080, BANKING),
    ("glue_sst2/train.tsv", {"kind": "tsv"}, 67_349, SST2),
    ("glue_sst2/dev.tsv", {"kind": "tsv"}, 872, SST2),
    ("glue_rte/train.tsv", {"kind": "tsv"}, 2_490, RTE),
    ("glue_rte/dev.tsv", {"kind": "tsv"}, 277, RTE),
    ("sms_spam/sms.tsv", {"kind": "tsv", "names": ["label", "text"]}, 5_574, ["label", "text"]),
    ("chnsenticorp_zh/train.tsv", TSV_NAMES, 9_600, ["text", "label"]),
    ("chnsenticorp_zh/dev.tsv", TSV_NAMES, 1_200, ["text", "label"]),
    ("wnut17/wnut17train.conll", {"kind": "conll"}, 3_394, WNUT),
    ("wnut17/emerging.dev.conll", {"kind": "conll"}, 1_009, WNUT),
    ("wnut17/emerging.test.annotated", {"kind": "conll"}, 1_287, WNUT),
    ("squad2_dev_half/dev-v2.0.json", {"kind": "squad"}, 6_078, SQUAD),
    ("xquad/xquad.en.json", {"kind": "squad"}, 1_190, SQUAD),
    ("xquad/xquad.zh.json", {"kind": "squad"}, 1_190, SQUAD),
    ("xquad/xquad.de.json", {"kind": "squad"}, 1_190, SQUAD),
    ("scitldr/train.jsonl", {"kind": "jsonl"}, 1_992, SCITLDR),
    ("scitldr/dev.jsonl", {"kind": "jsonl"}, 619, SCITLDR),
    ("scitldr/test.jsonl", {"kind": "jsonl"}, 618, SCITLDR),
    *(
        (f"multi30k/{name}.en.gz", languages, count, ["source", "target"])
        for languages in (EN_DE, EN_FR)
        for name, count in (("train", 29_000), ("val", 1_014), ("test_2016_flickr", 1_000), ("test_2017_flickr", 1_000))
    ),
    ("e2e_nlg/devset.csv", {"kind": "csv"}, 4_672, ["mr", "ref"]),
    ("e2e_nlg/testset_w_refs.csv", {"kind": "csv"}, 4_693, ["mr", "ref"]),
    ("instruct_rasbt/instruction-data.json", {"kind": "json"}, 1_100, INSTRUCT),
    ("instruct_rasbt/instruction-data-with-preference.json", {"kind": "json"}, 1_100, PREFERENCE),
    ("tinyshakespeare/input.txt", {"kind": "text"}, 32_777, ["text"]),
    ("tinyshakespeare/input.txt", {"kind": "text", "unit": "paragraph"}, 7_222, ["text"]),
    ("tinyshakespeare/input.txt", {"kind": "text", "unit": "file"}, 1, ["text"]),
]


def read(path, fields):
    source = TypeAdapter(Source).validate_python({**fields, "train": str(DATA / path)})
    return [row for file in source.files("train") for row in source.read(file)]


@pytest.mark.parametrize("path, fields, count, columns", SETS)
def test_every_row_is_read(path, fields, count, columns):
    rows = read(path, fields)
    assert [row for row in rows if not isinstance(row, Row)] == []
    assert len(rows) == count
    assert all(sorted(row.values) == sorted(columns) for row in rows)
    assert [row.line for row in rows] == sorted({row.line for row in rows})


def test_banking77_has_texts_of_several_lines():
    rows = read("banking77/train.csv", {"kind": "csv"})
    several = [row.line for row in rows if "\n" in row.values["text"]]
    lines = (DATA / "banking77/train.csv").read_text("utf-8").split("\n")
    assert len(several) == 10
    assert all(lines[line - 1].startswith('"') for line in several)
    assert len({row.values["category"] for row in rows}) == 77


def test_sst2_and_rte_keep_their_quotes():
    for path, column in (("glue_sst2/train.tsv", "sentence"), ("glue_rte/train.tsv", "sentence1")):
        rows = read(path, {"kind": "tsv"})
        text = (DATA / path).read_text("utf-8")
        assert sum(value.count('"') for row in rows for value in row.values.values()) == text.count('"')
        assert all(row.values[column].strip() for row in rows)


def test_wnut17_has_every_token_and_six_kinds_of_entity():
    rows = read("wnut17/wnut17train.conll", {"kind": "conll"})
    assert sum(len(row.values["tokens"]) for row in rows) == 62_730
    assert len({tag[2:] for row in rows for tag in row.values["tags"]} - {""}) == 6


def test_squad2_has_the_answerable_questions():
    rows = read("squad2_dev_half/dev-v2.0.json", {"kind": "squad"})
    assert sum(not row.values["is_impossible"] for row in rows) == 2_910
    assert all(row.values["is_impossible"] != bool(row.values["answers"]["text"]) for row in rows)


def test_chnsenticorp_repeats_training_texts_in_dev():
    names = ("train", "dev")
    train, dev = ([row.values["text"] for row in read(f"chnsenticorp_zh/{name}.tsv", TSV_NAMES)] for name in names)
    assert sum(map(set(train).__contains__, dev)) == 338
