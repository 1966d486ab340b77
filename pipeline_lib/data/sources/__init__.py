"""Where data comes from: one small file for each kind of source.

To add one, write a frozen class with `kind: Literal["..."]`, a docstring under every field (they are the form's
help) and `read`, as in `text.py`, then add its name to `Source`. A source that reads no plain file needs `files`
and `parts` too, as in `huggingface.py`. Sources with fewer fields stand first in `Source`: Prefect's form takes a
value for the first that has all of its fields. Heavy libraries are imported inside methods: forms and plans load this.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.conll import Conll
from pipeline_lib.data.sources.conllu import Conllu
from pipeline_lib.data.sources.csv import Csv, Tsv
from pipeline_lib.data.sources.huggingface import HuggingFace
from pipeline_lib.data.sources.json import Json, Jsonl
from pipeline_lib.data.sources.parallel import Parallel
from pipeline_lib.data.sources.parquet import Parquet
from pipeline_lib.data.sources.squad import Squad
from pipeline_lib.data.sources.text import Text

Source = Annotated[
    Parquet | Squad | Conllu | Jsonl | Tsv | Json | Text | Csv | Conll | Parallel | HuggingFace,
    Field(discriminator="kind"),
]

__all__ = ["Row", "Source", "Unusable"]
