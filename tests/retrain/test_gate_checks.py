"""The gate's decision on planted challengers, and its floors by hand. `pytest tests/retrain/test_gate_checks.py`."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.metrics.classification import SINGLE_LABEL
from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.objectives import TextClassification
from pipeline_lib.retrain.gate import Floor, Gate, load_gate
from pipeline_lib.retrain.gate_checks import check_against_champion, check_floors, decide

RIGHT = Metric(lambda sums: sums.mean("right"), True, "share that is right", (0, 1))
WRONG = Metric(lambda sums: 1 - sums.mean("right"), False, "share that is wrong", (0, 1))
DECISIONS = 200


def answers(right):
    return RowCounts({"right": np.asarray(right, float)})


def a_pair(random, champion, challenger, rows):
    """Answers of two models to the same rows: rows differ in how hard they are, for both alike."""
    hard = random.random(rows)
    agree = random.random(rows) < 0.7  # where both draw the same luck
    one, other = random.random(rows), random.random(rows)
    other = np.where(agree, one, other)
    return answers(one * 0.5 + hard * 0.5 < _cut(champion)), answers(other * 0.5 + hard * 0.5 < _cut(challenger))


def _cut(share):
    """The sum of two uniform halves is below this with the given chance, from one half up."""
    return 1 - np.sqrt((1 - share) / 2)


def promoted(gate, challenger, decisions=DECISIONS, metric=RIGHT, rows=400):
    """How many of the decisions promote a challenger of that true score over a champion of 0.8."""
    random = np.random.default_rng(0)
    pairs = (a_pair(random, 0.8, challenger, rows) for _ in range(decisions))
    outcomes = [decide(check_against_champion(gate, "right", metric, one, [other], 0), 1) for one, other in pairs]
    return sum(decision.verdict == "promoted" for decision in outcomes)


def test_an_equal_challenger_is_promoted_as_better_no_more_often_than_the_level_allows():
    assert promoted(Gate(), 0.8, rows=150) <= binom.ppf(0.999, DECISIONS, 0.05)


def test_one_that_is_worse_by_the_margin_is_promoted_no_more_often_than_the_level_allows():
    assert promoted(Gate(margin=0.03), 0.77, rows=150) <= binom.ppf(0.999, DECISIONS, 0.05)


def test_one_that_is_clearly_worse_is_never_promoted():
    assert promoted(Gate(margin=0.03), 0.7, 40) == promoted(Gate(margin=0.03), 0.7, 20, WRONG) == 0


def test_one_that_is_better_is_mostly_promoted_and_an_equal_one_within_a_margin_too():
    assert promoted(Gate(), 0.88, 40) > 36
    assert promoted(Gate(), 0.88, 20, WRONG) > 18
    assert promoted(Gate(margin=0.06), 0.8, 40) > 36


def test_a_lucky_seed_is_not_promoted_where_the_mean_of_the_seeds_is_worse():
    champion = answers(np.arange(400) % 20 < 16)
    lucky, *others = (answers(np.arange(400) % 20 < level) for level in (18, 12, 11))
    assert decide(check_against_champion(Gate(), "right", RIGHT, champion, [lucky], 0), 1).verdict == "promoted"
    refused = decide(check_against_champion(Gate(), "right", RIGHT, champion, [lucky, *others], 0), 1)
    assert refused.verdict == "refused"
    assert refused.reason.startswith("the mean of 3 seeds is not shown to be better than the champion in right (0.68")
    assert refused.numbers["right.gain"] == pytest.approx(0.1)


def test_the_reason_names_both_scores_the_bound_and_the_margin():
    champion, challenger = (answers(np.arange(100) < level) for level in (80, 79))
    said = decide(check_against_champion(Gate(margin=0.05), "right", RIGHT, champion, [challenger], 0), 4)
    assert (said.verdict, said.champion) == ("promoted", 4)
    assert said.reason.startswith(
        "the challenger is no more than 0.05 worse than the champion in right (0.7900 against 0.8000: "
        "gain -0.0100, at 95% confidence at least -0.0"
    )


def test_nothing_is_promoted_if_nothing_can_be_concluded():
    one_row = answers([1])
    assert (
        decide(check_against_champion(Gate(margin=1.0), "right", RIGHT, one_row, [one_row], 0), 1).verdict == "refused"
    )


def test_floors_hold_over_all_rows_and_over_a_part():
    gold, guess = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    outcome = Predictions(gold, guess, np.eye(2)[guess])
    columns = {"label": ["glad", "glad", "sad", "sad"], "year": [2024, 2025, 2025, 2025]}

    def holds(**floor):
        (check,) = check_floors([Floor(**floor)], SINGLE_LABEL, outcome, columns)
        return check.holds

    assert holds(metric="accuracy", bound=0.75)
    assert not holds(metric="accuracy", bound=0.76)
    assert not holds(metric="accuracy", bound=0.75, column="label", value="sad")
    assert holds(metric="accuracy", bound=0.66, column="year", value="2025")
    assert not holds(metric="log_loss", bound=0.5)  # lower is better, and one row is wrong for certain
    assert not holds(metric="accuracy", bound=0.0, column="label", value="nobody's")
    assert not holds(metric="accuracy", bound=0.0, column="no column", value="a")


def test_a_gate_asks_only_for_what_the_objective_knows():
    recipe = SimpleNamespace(objective=TextClassification(kind="text_classification"))
    with pytest.raises(RecipeError, match=r"gate.floors.0.metric = 'bleu': is not a metric of this objective"):
        Gate(floors=[{"metric": "bleu", "bound": 1}]).check(recipe)
    with pytest.raises(RecipeError, match=r"gate.metric = 'f2'"):
        Gate(metric="f2").check(recipe)
    with pytest.raises(RecipeError, match="has a column without a value"):
        Gate(floors=[{"metric": "accuracy", "bound": 1, "column": "label"}]).check(recipe)
    Gate(metric="macro_f1", floors=[{"metric": "accuracy", "bound": 0.9}]).check(recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margin: -1", "margin = -1: must be greater than or equal to 0. Give a number greater than or equal to 0"),
        ("margn: 1", "margn = 1: there is no such field. Did you mean 'margin'?"),
        ("floors: [{metric: accuracy}]", "floors.0.bound: is required. Add it"),
        ("drift: {labels: 2}", "drift.labels = 2: must be less than or equal to 1"),
        ("- a", "--gate = '~': must be a mapping of fields"),
    ],
)
def test_mistakes_in_a_gate_name_field_value_and_mend(tmp_path, text, message):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_gate(path)
    assert message.replace("~", str(path)) in str(error.value)
