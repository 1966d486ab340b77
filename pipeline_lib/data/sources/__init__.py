"""Data sources, one module per kind.

To add one, write a frozen class with `kind: Literal["..."]`, a docstring under every field (they are the form's help
texts) and a `read` method, as in `text.py`, then add the class to `Source`. A source that does not read plain files
also needs `files` and `parts`, as in `huggingface.py`. List sources with fewer fields first: Prefect's form picks the
first source whose fields all match a value. Import heavy libraries inside methods, because forms and plans import this
package.
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
from pipeline_lib.data.sources.yaml import Yaml

Source = Annotated[
    Parquet | Squad | Conllu | Yaml | Jsonl | Tsv | Json | Text | Csv | Conll | Parallel | HuggingFace,
    Field(discriminator="kind"),
]

__all__ = ["Row", "Source", "Unusable"]
