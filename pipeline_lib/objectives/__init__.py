"""Objectives: what is learned. To add one: write one file with the stages of `base.py`, add one name here.

With a second objective the line below becomes a union told apart by `kind`, as in `pipeline_lib.strategies`.
"""

from pipeline_lib.objectives.text_classification import TextClassification

Objective = TextClassification
