"""Steps of an epoch, parts of a step, padding. `pytest tests/training/test_batches.py`."""

import numpy as np
import pytest

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.training.batches import collate, plan_steps, split_by_tokens

LENGTHS = np.random.default_rng(0).integers(3, 200, size=5000)


def test_every_row_stands_in_an_epoch_once():
    assert sorted(np.concatenate(plan_steps(LENGTHS, 32, seed=7, epoch=0))) == list(range(5000))


def test_an_epoch_is_drawn_from_seed_and_epoch_alone():
    def drawn(seed, epoch):
        return np.concatenate(plan_steps(LENGTHS, 32, seed, epoch)).tolist()

    assert drawn(7, 0) == drawn(7, 0)
    assert drawn(7, 0) != drawn(7, 1)
    assert drawn(7, 0) != drawn(8, 0)


@pytest.mark.parametrize("batch_size", [1, 8, 32])
def test_steps_have_batch_size_rows_whether_short_or_long(batch_size):
    steps = plan_steps(LENGTHS, batch_size, seed=7, epoch=0)
    assert {abs(len(rows) - batch_size) for rows in steps} <= {0, 1}


def test_next_to_nothing_is_padding():
    steps = plan_steps(LENGTHS, 32, seed=7, epoch=0)
    padded = sum(len(rows) * LENGTHS[rows].max() for rows in steps)
    assert padded / LENGTHS.sum() < 1.02


def test_steps_of_like_length_do_not_follow_one_another():
    means = np.array([LENGTHS[rows].mean() for rows in plan_steps(LENGTHS, 32, seed=7, epoch=0)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_rows_make_few_steps(rows):
    steps = plan_steps(LENGTHS[:rows], 32, seed=7, epoch=0)
    assert [len(step) for step in steps] == [rows]


def test_parts_hold_at_most_the_tokens_that_fit_and_every_row_once():
    parts = split_by_tokens(np.arange(100), LENGTHS, batch_tokens=1000)
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert all(len(part) * LENGTHS[part].max() <= 1000 for part in parts)


def test_a_row_that_is_longer_than_the_budget_stands_alone():
    assert [part.tolist() for part in split_by_tokens(np.array([0, 1]), np.array([50, 5]), batch_tokens=10)] == [
        [0],
        [1],
    ]


def test_rows_are_padded_on_the_right_and_masked():
    encoded = Examples(
        Ragged.from_lists([[5, 6, 7], [8], [9, 9]]), np.arange(3), Ragged.from_lists([[0, 0, 1], [0], [0, 1]])
    )
    batch, targets = collate(encoded, [1, 0], pad=3)
    assert targets.tolist() == [1, 0]
    assert batch["input_ids"].tolist() == [[8, 3, 3], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_single_texts_have_no_segments():
    assert "token_type_ids" not in collate(Examples(Ragged.from_lists([[5, 6]]), np.zeros(1)), [0], pad=0)[0]


def test_a_width_is_rounded_up_but_not_above_the_longest_row_of_all():
    ids = Ragged.from_lists([[1], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]])
    tokens = Examples(ids, Ragged.from_lists([[0], [0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]), aligned=True)
    for rows, width in (([0], 4), ([0, 1], 6), ([2], 6)):
        batch, targets = collate(tokens, rows, pad=9, multiple=4)
        assert {tensor.shape for tensor in (*batch.values(), targets)} == {(len(rows), width)}
        assert batch["attention_mask"].sum(-1).tolist() == ids.lengths[rows].tolist()
    assert collate(tokens, [0], pad=9, multiple=4)[0]["input_ids"].tolist() == [[1, 9, 9, 9]]
