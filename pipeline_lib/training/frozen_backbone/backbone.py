"""The frozen backbone of a model: everything below its lowest trained layer, whose output for a row never changes.

It computes without dropout, on rows of equal length, so that sums contain no padding, and on a minimum number of
tokens, because very small matrix products add up in another order. So the output of a row is bitwise the same in any
batch, and training from cached outputs (`feature_cache.py`) ends with the same bytes as recomputing them in every step.
Tests verify this on the CPU in fp32.
"""

from collections.abc import Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.blocks import stacks
from pipeline_lib.models.head_precision import head_modules
from pipeline_lib.training.batches import collate

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from pipeline_lib.objectives import Objective

LEAST = 64
"""Minimum number of tokens per forward pass; rows are repeated to reach it."""
ROUNDING = 0.05
"""Allowed difference from the logits of the whole model, relative to the largest one; half precision is that coarse."""
FIRST, LAST = 0, -1
Batch = Mapping[str, "Tensor"]


class NotCached(Exception):
    """The outputs of a backbone cannot be cached; the message says why."""


class _Reached(Exception):
    """Ends a forward pass at the top of the backbone; its argument is the backbone's output."""


class Backbone:
    """The lowest `layers` blocks of a model with its embeddings; of an encoder-decoder, the whole encoder.

    Patches the model to accept the backbone's output as an additional input `hidden` and to continue from there;
    without it, it computes as before. Raises NotCached if the model does not support this, tested on rows of `encoded`.
    """

    def __init__(
        self, model: "PreTrainedModel", layers: int, objective: "Objective", encoded: Examples, pad: int,
        accelerator: "Accelerator",
    ):  # fmt: skip
        self.model, self.accelerator = model, accelerator
        self.hidden: Tensor | None = None
        self.rest: tuple[Any, ...] | None = None
        """What a block returns in addition to its output, if it returns a tuple."""
        self.place: int | None = None
        """The position that the layers above read, if they read a single one; FIRST or LAST."""
        self.narrow = False
        """Whether the top block computes a single position only (`training/fast_paths/cls_only.py`)."""
        self.lower: Backbone | None = None
        """A backbone with fewer layers, split off before this one, whose output batches may contain."""
        self.layers = layers
        self.is_sharded = False
        """Whether the model is sharded: then it runs from its embeddings on, with the backbone in evaluation mode.

        All ranks gather the weights of each block together, and so cannot run the backbone on rows of their own.
        """
        if model.config.is_encoder_decoder:
            self._split_encoder()
        else:
            self._split_blocks(layers)
        model.register_forward_pre_hook(self._take_hidden, with_kwargs=True, prepend=True)
        try:
            self._verify(objective, encoded, pad)
        except Exception as error:  # families that pad, pool or reorder tokens internally fail in many ways
            raise self._unsupported_family() from error

    def feed(self, batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Add `hidden` [rows, tokens, width] to a batch unless it has it; cut the batch to as many tokens."""
        if self.is_sharded:
            return batch
        hidden = batch["hidden"] if "hidden" in batch else self.compute(batch)
        return {name: tensor[:, : hidden.shape[1]] for name, tensor in batch.items()} | {"hidden": hidden}

    def turn_off_dropout(self) -> None:
        """Put the backbone of a sharded model into evaluation mode, as when it runs separately."""
        if not self.is_sharded:
            return
        if self.model.config.is_encoder_decoder:
            self.model.get_encoder().eval()
            return
        self.model.base_model.eval()
        for module in self._modules_above:
            module.train()

    @cached_property
    def _modules_above(self) -> "list[nn.Module]":
        """The blocks above the backbone, and the head."""
        blocks = stacks(self.model)[0].blocks[self.layers :]
        return [
            *(self.model.get_submodule(name) for block in blocks for name in block.names),
            *head_modules(self.model),
        ]

    def compute(self, batch: Batch) -> "Tensor":
        """Compute the backbone's output [rows, tokens, width] for a batch; padding is zero."""
        lengths, out = batch["attention_mask"].sum(-1), None
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            hidden = self.compute_unpadded({name: tensor[rows, :length] for name, tensor in batch.items()})
            if out is None:
                tokens = hidden.shape[1] if self.place is not None else batch["input_ids"].shape[1]
                out = hidden.new_zeros(len(lengths), tokens, hidden.shape[-1])
            out[rows, : hidden.shape[1]] = hidden
        assert out is not None
        return out

    def compute_unpadded(self, batch: Batch) -> "Tensor":
        """Compute the output for rows of equal length; [rows, 1, width] if only one position is read."""
        import torch

        rows, length = batch["input_ids"].shape
        # rows needed for LEAST tokens, rounded up; a narrow top block computes one token per row
        least = LEAST if self.narrow else -(-LEAST // length)
        index, training = torch.arange(max(rows, least)) % rows, self.model.training  # repeats rows in turn
        model_inputs = {name: tensor for name, tensor in batch.items() if name != "reference"}
        repeated = {name: tensor[index.to(tensor.device)] for name, tensor in model_inputs.items()}
        if self.lower:
            self.lower.hidden = repeated.pop("hidden", None)
        self.hidden = None
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            hidden = self._run(repeated)[:rows]
        self.model.train(training)
        return hidden if self.place is None or self.narrow else hidden[:, [self.place]]

    def _split_encoder(self) -> None:
        from transformers.modeling_outputs import BaseModelOutput

        encoder: Any = self.model.get_encoder()
        original = encoder.forward
        self._run = lambda batch: original(**batch).last_hidden_state

        def forward(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs) if self.hidden is None else BaseModelOutput(last_hidden_state=self.hidden)

        encoder.forward = forward

    def _split_blocks(self, layers: int) -> None:
        self.running = False
        blocks = [block.module for block in stacks(self.model)[0].blocks[:layers]]
        for block in blocks:
            block.forward = partial(self._block_forward, block.forward, block is blocks[-1])
        options = {"use_cache": False} if getattr(self.model.config, "use_cache", False) else {}
        base: Any = self.model.base_model

        def run(batch: Batch) -> "Tensor":
            self.running = True
            try:
                base(**batch, **options)
            except _Reached as reached:
                return reached.args[0]
            finally:
                self.running = False
            raise self._unsupported_family()

        self._run = run

    def _block_forward(self, forward: Any, is_top: bool, *args: Any, **kwargs: Any) -> Any:
        """Replace a block's forward: return the backbone's output if it is known, else compute the block."""
        if self.hidden is not None:
            return self.hidden if self.rest is None else (self.hidden, *self.rest)
        out = forward(*args, **kwargs)
        if not (self.running and is_top):
            return out
        if isinstance(out, tuple):
            out, *rest = out
            self.rest = tuple(rest)
        raise _Reached(out)

    def _take_hidden(self, model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.hidden = kwargs.pop("hidden", None)
        return args, kwargs

    def _refuse_longer(self, encoded: Examples, pad: int) -> None:
        """Raise NotCached if the model pads internally (Longformer) and returns more tokens than it was given."""
        ordered = np.argsort(encoded.ids.lengths, kind="stable")
        for row in (ordered[:1], ordered[-1:]):
            batch, _ = collate(encoded, row, pad, self.accelerator.device)
            if self.compute_unpadded(batch).shape[1] > batch["input_ids"].shape[1]:
                raise self._unsupported_family()

    def _unsupported_family(self) -> NotCached:
        return NotCached(f"the family {self.model.config.model_type} can't be split below its lowest trained layer")

    def _verify(self, objective: "Objective", encoded: Examples, pad: int) -> None:
        """Compare with the whole model on a short row, and detect whether the head reads a single position."""
        import torch

        # the shortest row with more than two tokens, so that first and last position differ from the others
        row = np.argsort(np.where(encoded.ids.lengths > 2, encoded.ids.lengths, np.iinfo(np.int64).max))[:1]
        batch, targets = collate(encoded, row, pad, self.accelerator.device)
        self.model.to(self.accelerator.device).eval()

        def logits(batch: "dict[str, Tensor]") -> "Tensor":
            with torch.no_grad(), self.accelerator.autocast():
                return objective.forward(self.model, batch, targets).float()

        whole = logits(batch)
        self._refuse_longer(encoded, pad)
        self.narrow = self.compute_unpadded(batch).shape[1] < batch["input_ids"].shape[1]

        def is_close(other: "Tensor") -> bool:
            return other.shape == whole.shape and bool((other - whole).abs().max() <= ROUNDING * whole.abs().max())

        if any(part is not None for part in self.rest or ()) or not is_close(logits(fed := self.feed(batch))):
            raise self._unsupported_family()
        # With NaN in all other positions, the logits stay finite only if the head reads no other position.
        for place in (FIRST, LAST) if fed["hidden"].shape[1] > 2 and not objective.per_token else ():
            single = torch.full_like(fed["hidden"], torch.nan)
            single[:, place] = fed["hidden"][:, place]
            if is_close(logits(fed | {"hidden": single})):
                self.place = place
                if is_close(logits(self.feed(batch))):
                    return
        self.place = None
