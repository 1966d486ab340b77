"""Tell a model's head from its pre-trained backbone by the names of its parameters."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def head_names(model: "PreTrainedModel") -> set[str]:
    """Return the names of all parameters and buffers that may be new: those above the backbone, and its pooler.

    Checkpoints pre-trained without a pooler (RoBERTa, or BERT saved for masked language modelling) lack it.
    transformers counts it as part of the backbone, but only the head uses it.
    """
    backbone = backbone_modules(model)
    return {name for name in model.state_dict() if not name.startswith(backbone) or ".pooler." in f".{name}"}


def backbone_modules(model: "PreTrainedModel") -> tuple[str, ...]:
    """Return the name prefixes of the pre-trained backbone's parameters."""
    import torch
    from transformers import AutoModel

    prefix = model.base_model_prefix
    if prefix and hasattr(model, prefix):
        return (f"{prefix}.",)
    # T5 and similar models have the backbone's modules at their top level; a bare model of the family has only those.
    with torch.device("meta"):  # only names are needed: allocates no memory
        bare = AutoModel.from_config(model.config, trust_remote_code=False)
    return tuple(f"{name}." for name, _ in bare.named_children())
