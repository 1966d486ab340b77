"""Objectives: what is learned. To add one: write one file with the stages of `base.py`, add one name here.

Those with fewer fields stand first: Prefect's form takes a value for the first that has all of its fields.
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
