"""A decision as people read it. `pytest tests/retrain/test_decision_page.py`."""

import base64
import re

from pipeline_lib.retrain.decision_page import decision_markdown, format_decision
from pipeline_lib.retrain.gate_checks import Decision

NUMBERS = {"f1.champion": 0.8, "f1.challenger": 0.85, "f1.gain": 0.05, "f1.bound": 0.01, "f1.margin": 0.0}


def test_a_page_has_verdict_reason_numbers_and_a_figure(drawn):
    page = decision_markdown(Decision("promoted", "it is better", 4, 3, NUMBERS), "support")
    assert page.startswith("# support, version 4: promoted against version 3\n\nThe challenger is the new champion.")
    assert "Reason: it is better." in page
    assert "| f1.bound | 0.0100 |" in page
    (png,) = re.findall(r"data:image/png;base64,([^)]+)\)", page)
    assert base64.b64decode(png).startswith(b"\x89PNG")


def test_where_no_models_were_compared_there_is_no_figure():
    page = decision_markdown(Decision("nothing to do", "every step is reused"), "support")
    assert page == "# support: nothing to do\n\nNothing was trained.\n\nReason: every step is reused."


def test_the_terminal_has_one_line_and_the_numbers():
    first, *numbers = format_decision(Decision("refused", "it is worse", 4, 3, NUMBERS), "support")
    assert first == "refused (version 4 of support): it is worse"
    assert numbers[3].split() == ["f1.bound", "0.0100"]


def test_what_a_decision_could_not_rest_on_is_reported():
    decision = Decision("refused", "it is worse", 4, 3, NUMBERS, ("the weather is not known",))
    assert format_decision(decision, "support")[-1] == "  the weather is not known"
    assert "\n\nNote: the weather is not known.\n\n" in decision_markdown(decision, "support")
