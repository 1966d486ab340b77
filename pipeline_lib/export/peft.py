"""Write a trained adapter as a folder that PEFT loads onto the base model."""

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.model_files import copy_tokenizer, write_config
from pipeline_lib.export.plain_weights import SERVE, fold_target_scale
from pipeline_lib.export.verification import model_outputs, require_equal, verification_inputs, with_virtual_tokens
from pipeline_lib.models.base_model import LOCAL, load_config, load_tokenizer
from pipeline_lib.models.building import TRAINED, load_trained, read_card
from pipeline_lib.store.lineage import Lineage, is_hub_id
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import ParameterInfo, StrategySection

if TYPE_CHECKING:
    import pyarrow
    from peft import PeftConfig, PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForCausalLM": "CAUSAL_LM",
}
"""PEFT's task type of an architecture, by the end of its name; it may have none, such as for masked models."""
MERGED = "Export merged weights with --format huggingface"
IN_PEFT = re.compile(r"^base_model\.model\.|\.(modules_to_save|ln_tuning_layers)\.default(?=\.)")
"""What PEFT adds to the name of a parameter."""
PROMPT = "prompt_encoder.default.embedding.weight"


def write_adapter(lineage: Lineage, out: Path, rows: "pyarrow.Table | None" = None) -> None:
    """Write adapter_config.json, adapter_model.safetensors, config and tokenizer, and verify the result.

    Args:
        lineage: The trained model and its base.
        out: The folder to write to.
        rows: Encoded rows to verify on; without any, a built-in sentence.

    Raises:
        RecipeError: If PEFT has no adapter of this kind, or weights of the base were trained as well.
    """
    from peft import get_peft_model

    card, tokenizer = read_card(lineage.model), load_tokenizer(lineage.model)
    if not (lineage.model / TRAINED).exists():
        raise _refusal("the model has no adapter: all weights of its base were trained")
    strategy = _adapter_strategy(card["strategies"])
    trained = _trained_weights(lineage.model, strategy, card["head"])
    inputs = verification_inputs(tokenizer, rows)
    if strategy.prompt():
        _refuse_prompt(tokenizer, inputs, card["head"])
    model_class, expected = _trained_outputs(lineage, card, tokenizer, inputs)
    base = _load_base(lineage, model_class, card["head"])
    config = _config(strategy, base, {name for name in trained if name in card["head"]})
    with _quiet():
        adapted = get_peft_model(base, config)
    _copy_weights(adapted, trained)
    if card["target_scale"]:
        fold_target_scale(adapted.get_base_model(), card["target_scale"])  # type: ignore[arg-type]
    _name_base(config, lineage)
    adapted.save_pretrained(str(out), save_embedding_layers=False)
    write_config(lineage.model, out)
    copy_tokenizer(lineage.model, out)
    del adapted, base  # before the base is loaded again
    base = _load_base(lineage, model_class, card["head"])
    require_equal(_read_back(base, out, inputs), expected, "peft", "PEFT")


def _adapter_strategy(strategies: Iterable[Strategy]) -> Strategy:
    """Return the only strategy that adds an adapter; raise RecipeError if there is none, or if there are several."""
    adding = [s for s in strategies if type(s).inject is not StrategySection.inject or _has_peft_config(s)]
    if not adding:
        raise _refusal("the model has no adapter: its strategies train weights of the base or only the head")
    for strategy in adding:
        if not _has_peft_config(strategy):
            raise RecipeError("--format", "peft", f"{strategy.kind!r} has no counterpart in PEFT", SERVE)
    if len(adding) > 1:
        kinds = " and ".join(repr(strategy.kind) for strategy in adding)
        raise _refusal(f"PEFT saves one adapter per folder, but the model has {kinds}")
    return adding[0]


def _has_peft_config(strategy: Strategy) -> bool:
    return type(strategy).peft_config is not StrategySection.peft_config


def _trained_weights(folder: Path, strategy: Strategy, head: "list[str]") -> "dict[str, Tensor]":
    """Return the trained weights by name; raise RecipeError if there are any besides those of adapter and new head."""
    from safetensors.torch import load_file

    trained = load_file(folder / TRAINED)
    others = [name for name in trained if name not in head and not strategy.is_trainable(ParameterInfo(name, 0, 0))]
    if others:
        raise _refusal(f"other weights of the base were trained besides {strategy.kind!r}, such as {others[0]}")
    return trained


def _refuse_prompt(tokenizer: "PreTrainedTokenizerBase", inputs: "list[Tensor]", head: "list[str]") -> None:
    """Raise RecipeError if PEFT would put virtual tokens elsewhere, or cannot keep the new head beside them."""
    if head:
        raise RecipeError(
            "--format", "peft", f"PEFT does not save a new head ({head[0]}) together with a learned prompt", SERVE
        )
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    if any(ids[0, 0] == first for ids in inputs):
        token = tokenizer.convert_ids_to_tokens(first)
        problem = f"PEFT puts learned prompts before {token}, where this model was trained with its prompt after it"
        raise RecipeError("--format", "peft", problem, SERVE)


def _trained_outputs(
    lineage: Lineage, card: dict[str, Any], tokenizer: "PreTrainedTokenizerBase", inputs: "list[Tensor]"
) -> "tuple[type, list[Tensor]]":
    """Return the class of the trained model and its outputs for the inputs, in the unit of the data."""
    model = load_trained(lineage.model, lineage.base, plain=True)
    expected = model_outputs(model, with_virtual_tokens(inputs, card["strategies"], tokenizer), inputs)
    if scale := card["target_scale"]:
        expected = [output * scale.deviation + scale.mean for output in expected]
    return type(model), expected


def _load_base(lineage: Lineage, model_class: Any, head: "list[str]") -> "PreTrainedModel":
    """Load the base as a user of the adapter does: with the configuration that is exported with it."""
    base, report = model_class.from_pretrained(
        lineage.base,
        config=load_config(lineage.model),
        dtype="float32",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **LOCAL,
    )
    learned = {name for name, parameter in base.named_parameters() if parameter.requires_grad}
    lost = sorted((learned & set(report["missing_keys"])) - set(head))
    if lost:  # LlamaForQuestionAnswering looks for other names than the checkpoints of its family have
        raise _refusal(f"transformers loads a {model_class.__name__} without weights of this base, such as {lost[0]}")
    return base.eval()


def _config(strategy: Strategy, base: "PreTrainedModel", head: set[str]) -> "PeftConfig":
    config: Any = strategy.peft_config(base)
    config.task_type = next((task for end, task in TASKS.items() if type(base).__name__.endswith(end)), None)
    if config.task_type is None and strategy.prompt():
        raise RecipeError("--format", "peft", f"PEFT has no prompt tuning for {type(base).__name__}", SERVE)
    if head:
        config.modules_to_save = _head_modules(base, head)
    return config


def _head_modules(model: "PreTrainedModel", head: set[str]) -> list[str]:
    """Return the outermost modules that have only parameters of the head."""
    modules: list[str] = []
    for name, module in model.named_modules():
        inner = {f"{name}.{parameter}" for parameter, _ in module.named_parameters()}
        if inner and inner <= head and not name.startswith(tuple(f"{outer}." for outer in modules)):
            modules.append(name)
    return modules


def _copy_weights(adapted: "PeftModel", trained: "dict[str, Tensor]") -> None:
    """Copy the trained weights to the corresponding modules of PEFT."""
    import torch

    places: dict[str, nn.Parameter] = {}
    for name, parameter in adapted.named_parameters():
        if ".original_module." not in name:
            places[IN_PEFT.sub("", name)] = parameter
    with torch.no_grad():
        for name, tensor in trained.items():
            places[PROMPT if name.endswith(".prompt") else name].copy_(tensor)


def _name_base(config: "PeftConfig", lineage: Lineage) -> None:
    """Name the base by its hub id and revision, otherwise by its folder."""
    if is_hub_id(lineage.base_name):
        config.base_model_name_or_path, config.revision = lineage.base_name, lineage.revision or None
        return
    named = Path(lineage.base_name)
    is_named_folder = bool(lineage.base_name) and named.is_dir()
    config.base_model_name_or_path = str(named.absolute() if is_named_folder else lineage.base)


def _read_back(base: "PreTrainedModel", out: Path, inputs: "list[Tensor]") -> "list[Tensor]":
    """Return the outputs of the base with the exported adapter."""
    from peft import PeftModel

    with _quiet():
        adapted: Any = PeftModel.from_pretrained(base, str(out))
    return model_outputs(adapted.eval(), inputs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide PEFT's warnings about values that it corrects itself, and about norms; the outputs are verified."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refusal(problem: str) -> RecipeError:
    return RecipeError("--format", "peft", problem, MERGED)
