"""What all regularizers have in common, and which do not go together. `pytest tests/regularizers`."""

import pytest
from kinds import kinds
from pydantic import TypeAdapter, ValidationError

from pipeline_lib.regularizers import Regularizer, refuse_senseless

KINDS = kinds(Regularizer)


def read(*sections):
    return TypeAdapter(tuple[Regularizer, ...]).validate_python(sections)


def test_each_stands_in_a_recipe_by_its_kind():
    assert [section.kind for section in read(*({"kind": kind} for kind in KINDS))] == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_has_its_help_text(kind):
    (section,) = read({"kind": kind})
    fields = {name: field.description for name, field in type(section).model_fields.items() if name != "kind"}
    assert fields
    assert all(fields.values()), fields


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("dropout", "value", 1.0),
        ("dropout", "attention", -0.1),
        ("l2_sp", "value", -1.0),
        ("label_smoothing", "value", 1.0),
        ("mixout", "probability", 1.0),
        ("neftune", "alpha", -1.0),
        ("r_drop", "alpha", float("nan")),
    ],
)
def test_values_without_a_meaning_are_refused(kind, field, value):
    with pytest.raises(ValidationError):
        read({"kind": kind, field: value})


def test_none_stands_twice():
    with pytest.raises(ValueError, match="'mixout' appears 2 times"):
        refuse_senseless(read({"kind": "mixout"}, {"kind": "dropout"}, {"kind": "mixout", "probability": 0.9}))


def test_weights_are_pulled_to_one_place():
    with pytest.raises(ValueError, match="Remove one of them"):
        refuse_senseless(read({"kind": "weight_decay"}, {"kind": "l2_sp"}))


def test_all_others_go_together():
    refuse_senseless(read(*({"kind": kind} for kind in KINDS if kind != "weight_decay")))
    refuse_senseless(read(*({"kind": kind} for kind in KINDS if kind != "l2_sp")))
    refuse_senseless(())
