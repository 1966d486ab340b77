"""Objectives: what the model learns. To add one, implement the stages of `base.py` in a new file and add it here.

Objectives with fewer fields come first: Prefect's form matches a value to the first one that has all of its fields.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.objectives.causal_lm import CausalLM
from pipeline_lib.objectives.language_modeling import LanguageModeling
from pipeline_lib.objectives.preference import Preference
from pipeline_lib.objectives.question_answering import QuestionAnswering
from pipeline_lib.objectives.seq2seq import Seq2Seq
from pipeline_lib.objectives.text_classification import TextClassification
from pipeline_lib.objectives.token_classification import TokenClassification

Objective = Annotated[
    TokenClassification | TextClassification | CausalLM | LanguageModeling | Seq2Seq | QuestionAnswering | Preference,
    Field(discriminator="kind"),
]
