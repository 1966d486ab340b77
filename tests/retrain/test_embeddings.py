"""How well planted texts can be told apart by a tiny base. `pytest tests/retrain/test_embeddings.py`."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline_lib.pipeline.fingerprints import profile_step
from pipeline_lib.retrain.embeddings import EMBEDDINGS, MOST, Embedder, NotCompared, measure_separability, sample_rows

GLAD = ["what", "a", "fine", "day", "i", "love", "this", "tea", "the", "sun", "is", "warm", "and", "kind"]
SAD = ["nobody", "came", "to", "dinner", "it", "rains", "on", "my", "shoes", "lost", "game", "again"]


def written(words, seed, rows=150):
    """Texts of four to nine of the words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, size)) for size in random.integers(4, 10, rows)]


@pytest.fixture
def embedder(tiny_bert):
    return Embedder(tiny_bert, "a digest", "cpu")


@pytest.fixture
def profile(embedder, tmp_path):
    embedder.write(written(GLAD, 0), tmp_path)
    return tmp_path


def test_texts_of_the_same_words_are_near_and_those_of_other_words_far(embedder, profile):
    assert embedder.distance(profile, written(GLAD, 1)) < 0.2
    assert embedder.distance(profile, written(SAD, 1)) > 0.95


def test_where_a_share_of_the_rows_is_of_another_kind_the_distance_is_that_share():
    random = np.random.default_rng(0)
    before, now = random.normal(size=(1000, 4)), random.normal(size=(1000, 4))
    now[:300, 0] += 50
    assert measure_separability(before, now) == pytest.approx(0.3, abs=0.06)  # the others are told by chance
    assert measure_separability(before, before + 50) == 1
    # guesses at held-out twins are wrong, not right: no distance below none
    assert measure_separability(before, before) == 0


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_an_embedding_is_the_mean_over_a_text_s_own_tokens(tiny, family):
    import torch
    from transformers import AutoModel, AutoTokenizer

    text, longer = "what a fine day", "it rains on my shoes by the sea near the mill"
    model, tokenizer = AutoModel.from_pretrained(tiny[family]).eval(), AutoTokenizer.from_pretrained(tiny[family])
    reader = model.get_encoder() if family == "t5" else model
    with torch.inference_mode():
        alone = reader(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
    found = Embedder(tiny[family], "", "cpu").embed([text, longer])
    assert (found.shape, found.dtype) == ((2, 32), np.float16)
    np.testing.assert_allclose(found[0], alone.mean(0), atol=2e-3)


def test_long_texts_are_cut_and_one_without_tokens_is_no_error(embedder):
    assert np.isfinite(embedder.embed(["fine day " * 200, ""])).all()


def test_the_same_texts_give_the_same_bytes(embedder, profile, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    embedder.write(written(GLAD, 0), again)
    assert (again / EMBEDDINGS).read_bytes() == (profile / EMBEDDINGS).read_bytes()


def test_what_cannot_be_compared_is_explained(embedder, profile, tiny_bert, tmp_path_factory):
    def why(embedder, profile, rows):
        with pytest.raises(NotCompared) as error:
            embedder.distance(profile, written(GLAD, 1, rows))
        return str(error.value)

    assert why(Embedder(tiny_bert, "another", "cpu"), profile, 150) == "the champion was trained from another base"
    assert why(embedder, tmp_path_factory.mktemp("older"), 150) == "the champion's profile has none"
    assert why(embedder, profile, 49) == "49 rows are too few; at least 50 are needed"


def test_of_many_rows_the_same_thousand_are_drawn_and_of_few_all():
    rows = pa.table({"row": range(5000)})
    drawn = sample_rows(rows)["row"].to_numpy()
    assert len(drawn) == len(np.unique(drawn)) == MOST
    assert (np.diff(drawn) > 0).all() and 2000 < drawn.mean() < 3000
    assert sample_rows(rows).equals(sample_rows(rows))
    assert sample_rows(rows.slice(0, 7)).equals(rows.slice(0, 7))


def test_another_base_makes_another_profile(recipe):
    one, other = (profile_step(recipe, {"prepare": "a", "base": base}).fingerprint for base in ("b", "c"))
    assert one != other
