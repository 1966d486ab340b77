"""Baselines: shares of the classes, and a bag of words that learns what words can tell.

Run: python -m pytest tests/evaluation/test_baselines.py
"""

import subprocess
import sys

import numpy as np
import pytest

from pipeline_lib.evaluation.baselines import BASELINES, bag_of_words, majority

pytestmark = pytest.mark.filterwarnings("error")

TEXTS = [
    "my card is lost",
    "lost card again",
    "I lost it",
    "what is the fee ?",
    "the fee is high",
    "a fee of 5 ?",
    "hello",
]
GOLD = np.array([0, 0, 0, 2, 2, 2, 3])  # class 1 is not in the data, class 3 is there once


def test_majority():
    probabilities = majority(TEXTS, GOLD, ["a", "b"], 4)
    np.testing.assert_allclose(probabilities, [[3 / 7, 0, 3 / 7, 1 / 7]] * 2)


def test_bag_of_words_learns_words():
    probabilities = bag_of_words(TEXTS, GOLD, ["they lost the card", "which fee", "hello there"], 4)
    assert probabilities.argmax(axis=1).tolist() == [0, 2, 3]
    assert probabilities.dtype == np.float64 and (probabilities[:, 1] == 0).all()


def test_bag_of_words_learns_order_and_signs():
    texts, gold = ["not good but bad", "not bad but good"] * 4, np.array([0, 1] * 4)
    assert bag_of_words(texts, gold, ["not good", "not bad"], 2).argmax(axis=1).tolist() == [0, 1]
    texts, gold = ["so !", "so ?"] * 4, np.array([0, 1] * 4)
    assert bag_of_words(texts, gold, ["!", "?"], 2).argmax(axis=1).tolist() == [0, 1]


def test_bag_of_words_without_spaces():
    texts = ["酒店房间很干净", "房间干净服务好", "服务员态度很差", "早餐难吃态度差"]
    probabilities = bag_of_words(texts, np.array([1, 1, 0, 0]), ["卫生间干净", "前台的态度太差"], 2)
    assert probabilities.argmax(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("texts", [["same class", "of all"], ["", " "]])
def test_bag_of_words_with_nothing_to_tell_apart_is_the_majority(texts):
    gold = np.array([1, 1]) if texts[0] else np.array([1, 0])
    np.testing.assert_array_equal(bag_of_words(texts, gold, ["x"], 3), majority(texts, gold, ["x"], 3))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_the_same_probabilities_twice(name):
    once, again = (BASELINES[name](TEXTS, GOLD, ["a card", "", "新"], 4) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == (3, 4)
    np.testing.assert_allclose(once.sum(axis=1), 1, atol=1e-6)


def test_importing_the_evaluation_is_cheap():
    modules = ["metrics.classification", "metrics.regression", "statistics.bootstrap", "report.figures", "baselines"]
    imports = "; ".join(f"import pipeline_lib.evaluation.{module}" for module in modules)
    heavy = {"sklearn", "scipy", "matplotlib", "pandas", "torch"}
    code = f"import sys; {imports}; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
