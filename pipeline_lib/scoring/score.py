"""Predict the rows of Parquet files; each shard is an artifact of the store, which is verified and reused."""

import json
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.sources.parquet import Parquet
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.answer_columns import answer_column
from pipeline_lib.evaluation.predictor import ERROR
from pipeline_lib.pipeline.code_fingerprint import NEVER, PACKAGE, module_digests
from pipeline_lib.pipeline.fingerprints import COMPUTING
from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.recipe.path_policy import refuse_outside, refuse_path_outside
from pipeline_lib.scoring.input_file import State, read_batches, read_schema, refuse_changed_input, state_of
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.digests import content_digest, describe
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.training.device import precision_to_answer
from pipeline_lib.util.redaction import redact, redact_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline_lib.evaluation.predictor import LoadedModel

log = logging.getLogger("tunesmith")
ANSWERS = "answers.parquet"
ANSWERED = "answered"


@dataclass(frozen=True)
class ScoringModel:
    """A trained model's folder, the folder of its base if it needs one, and the digests of both."""

    folder: Path
    base: Path | None
    digests: dict[str, str]


@dataclass(frozen=True)
class Scored:
    """A written file, with its numbers of rows, of shards and of shards that were reused."""

    file: Path
    rows: int
    shards: int
    reused: int

    @property
    def message(self) -> str:
        """A summary for the terminal and for Prefect."""
        return f"{self.rows:,} rows to {self.file}; {self.reused} of {self.shards} shards reused"


@redact_errors()
def files(scoring: Scoring) -> list[Path]:
    """List and check the input files; raises RecipeError if one is missing or would be overwritten."""
    inputs, out = Parquet(kind="parquet", train=scoring.data).files("train"), Path(scoring.out)
    refuse_outside(scoring)
    for file in inputs:
        refuse_path_outside("data", file)
    names = [file.name for file in inputs]
    for file in inputs:
        if names.count(file.name) > 1:
            raise RecipeError("data", str(file), "has the same name as another file", "Score their folders separately")
        if (out / file.name).resolve() == file.resolve():
            raise RecipeError("out", scoring.out, f"would overwrite {file}", "Choose another folder")
    return inputs


@redact_errors()
def fetch_model(scoring: Scoring, made_by: str = "a plain call") -> ScoringModel:
    """Get the model: from MLflow, cached in the store, or from a folder, with the base from that folder's store."""
    refuse_outside(scoring)
    folder, base = locate_model(scoring.model, scoring.store, scoring.tracking_uri, made_by)
    parts = {"model": folder} | ({"base": base} if base else {})
    return ScoringModel(folder, base, {name: content_digest(describe(part)) for name, part in parts.items()})


def locate_model(model: str, store: str, mlflow: str | None, made_by: str = "a plain call") -> tuple[Path, Path | None]:
    """Find a trained model, and fetch it into the store if it is in MLflow.

    Args:
        model: A models:/ URI in MLflow, or a folder.
        store: The store that caches models from MLflow.
        mlflow: MLflow's tracking URI, if it is not the default.
        made_by: Who requests it, for the store's records.

    Returns:
        The model's folder, and the base's folder if the model needs one, else None.
    """
    from pipeline_lib.models.building import POINTER, TRAINED
    from pipeline_lib.store.lineage import lineage_of_folder

    if model.startswith("models:/"):
        from pipeline_lib.tracking.model_uri import artifact_location, download

        uri = tracking_uri(Execution(tracking_uri=mlflow))
        location = artifact_location(model, uri)
        step = Step("model", 3, {"location": redact(location)}, {})

        def fetch_files(into: Path) -> None:
            download(model, location, uri, into)

        folder = open_store(store).ensure(step, fetch_files, made_by).folder
        pointer = folder / "artifacts" / POINTER
        # adapters are logged with a pointer to their base instead of its weights
        known_base = _base(pointer, uri, open_store(store), made_by) if pointer.is_file() else None
        lineage = lineage_of_folder(folder / "artifacts", known_base)
    else:
        lineage = lineage_of_folder(Path(model))
    base = lineage.base if (lineage.model / TRAINED).exists() else None  # models with full weights need none
    return lineage.model, base


def _base(pointer: Path, uri: str, store: Store, made_by: str) -> Path:
    """The base of an adapter, fetched into the store unless it is there already."""
    from pipeline_lib.models.building import copy_base
    from pipeline_lib.tracking.base_model import fetch_served_base, file_digests

    step = Step("base", 1, {}, file_digests(pointer))
    return store.ensure(step, lambda into: copy_base(fetch_served_base(pointer, uri), into), made_by).folder


@redact_errors()
def score(scoring: Scoring, model: ScoringModel, file: Path, made_by: str = "a plain call") -> Scored:
    """Predict one file, shard by shard, and write it with its predictions, completely or not at all."""
    from pipeline_lib.models.building import read_card

    card = read_card(model.folder)
    objective, strategies = card["objective"], card["strategies"]
    entries = [f"{PACKAGE.name}.evaluation.predictor", *(type(part).__module__ for part in (objective, *strategies))]
    code = module_digests(entries, [f"{PACKAGE.name}.{name}" for name in (*NEVER, "data.shards")])
    store, shards = open_store(scoring.store), list[Artifact]()
    precision = {"precision": precision_to_answer(scoring.device, card["precision"])}
    state, names = state_of(file), read_schema(file).names
    roles = _roles(scoring, card, names, file)
    _refuse_taken_columns(objective, names, file)
    for batch in read_batches(file, scoring.shard_rows):
        rows = batch.select(list(roles.values())).rename_columns(list(roles)).to_pylist()
        digest = sha256(json.dumps(rows, default=str).encode()).hexdigest()
        step = Step("answers", 1, precision, {"rows": digest, **model.digests}, ("pyarrow", *COMPUTING), code)
        shards.append(store.ensure(step, partial(_predict_shard, scoring, model, rows), made_by))
    path, row_count = _write(file, state, [shard.folder / ANSWERS for shard in shards], scoring)
    scored = Scored(path, row_count, len(shards), sum(shard.reused for shard in shards))
    log.info("%-11s %s", "score", scored.message)
    return scored


def _roles(scoring: Scoring, card: Mapping[str, Any], columns: list[str], file: Path) -> dict[str, str]:
    """The column of each role that the model reads; raises RecipeError if a required one is missing."""
    names, inputs = card["objective"].columns(scoring.columns), card["asked"]
    roles = {role: names.get(role, role) for role in inputs if names.get(role, role) in columns}
    for role, required in inputs.items():
        if required and role not in roles:
            problem = f"is not a column of {file.name}, which has {', '.join(columns)}"
            raise RecipeError(f"columns.{role}", names.get(role, role), problem, f"Set columns.{role} to one of them")
    return roles


def _refuse_taken_columns(objective: Any, columns: list[str], file: Path) -> None:
    """Raise RecipeError if the file already has a column of the predictions, before any is computed."""
    taken = [name for name in (ANSWERED, *objective.answer_columns, ERROR) if name in columns]
    if taken:
        raise RecipeError("data", str(file), f"already has a column {taken[0]!r}", "Rename it")


def _predict_shard(scoring: Scoring, model: ScoringModel, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write the predictions of a shard; rows that cannot be answered get nulls and the reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    answers = _load_model(model.folder, model.base, scoring.device).answer(rows)
    errors = pa.array(answers.pop(ERROR), pa.string())
    columns = {name: answer_column(values) for name, values in answers.items()}
    pq.write_table(pa.table({ANSWERED: errors.is_null(), **columns, ERROR: errors}), folder / ANSWERS)


@lru_cache(maxsize=1)
def _load_model(folder: Path, base: Path | None, device: Any) -> "LoadedModel":
    from pipeline_lib.evaluation.predictor import LoadedModel

    return LoadedModel(folder, base, device)


def _write(file: Path, state: State, answers: list[Path], scoring: Scoring) -> tuple[Path, int]:
    """Write the file's columns and the predictions to the folder `out`; returns the path and the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = Path(scoring.out) / file.name
    out.parent.mkdir(parents=True, exist_ok=True)
    # written to a temporary file first, which replaces the output when it is complete
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    # a column that is null in a whole shard has the type null there
    answer_schema = pa.unify_schemas(
        [pq.read_schema(part) for part in answers] or [pa.schema([])], promote_options="permissive"
    )
    try:
        refuse_changed_input(file, state)
        schema, rows = pa.schema([*read_schema(file), *answer_schema]), 0
        with pq.ParquetWriter(temporary, schema) as writer:
            for batch, part in zip(read_batches(file, scoring.shard_rows), answers, strict=True):
                writer.write_table(_add_answers(batch, pq.read_table(part), schema))
                rows += len(batch)
        refuse_changed_input(file, state)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return out, rows


def _add_answers(batch: "pa.RecordBatch", answers: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The batch's columns and the answers, cast to a schema; missing columns are null."""
    import pyarrow as pa

    def column(field: "pa.Field") -> Any:
        if field.name in batch.schema.names:
            return batch.column(field.name)
        if field.name in answers.column_names:
            return answers[field.name].cast(field.type)
        return pa.nulls(len(batch), field.type)

    return pa.table([column(field) for field in schema], schema=schema)
