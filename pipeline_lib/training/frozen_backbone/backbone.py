"""The trunk of a model: all below its lowest trained layer. What it makes of a row never changes.

It always computes without dropout, on rows of one length, so that no padding is in the sums, and on no fewer tokens
than some, as matrix products of very few rows add up in another order: so what a row gives is the same to the bit in
whatever batch it stands, and training from what was kept (`kept.py`) ends with the same bytes as computing it again in
every step. Tests hold that on the CPU in fp32.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.blocks import stacks
from pipeline_lib.training.batches import collate

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline_lib.objectives import Objective

LEAST = 64
"""Tokens that go through the trunk together at least; rows are repeated where there are fewer."""
ROUNDING = 0.05
"""How far, relative to the largest, logits may lie from those of the whole model: half precision is that rough."""
FIRST, LAST = 0, -1
Batch = Mapping[str, "Tensor"]


class NotCached(Exception):
    """Why what a trunk puts out is not kept."""


class _Reached(Exception):
    """Ends a pass where the trunk ends, with what it has put out."""


class Backbone:
    """The lowest `layers` blocks of a model with the embeddings below them; of an encoder-decoder its whole encoder.

    From now on the model takes `hidden`, what the trunk puts out, beside its inputs and continues from there; without
    it all is computed as before. Raises NotKept where the model can't be parted so, found on a row of `encoded`.
    """

    def __init__(
        self, model: "PreTrainedModel", layers: int, objective: "Objective", encoded: Examples, pad: int,
        accelerator: "Accelerator",
    ):  # fmt: skip
        self.model, self.accelerator = model, accelerator
        self.hidden: Tensor | None = None
        self.rest: tuple[Any, ...] | None = None
        """What a block returns beside its output, where that is a tuple."""
        self.place: int | None = None
        """The one place of a row that is read above the trunk, if it is only one."""
        self.narrow = False
        """Whether the uppermost block computes one place of a row alone (`training/fast_paths/cls_only.py`)."""
        self.lower: Backbone | None = None
        """A trunk of fewer layers of the same model, parted before this one, whose output batches may bring along."""
        if model.config.is_encoder_decoder:
            self._part_encoder()
        else:
            self._part_blocks(layers)
        model.register_forward_pre_hook(self._take, with_kwargs=True, prepend=True)
        try:
            self._prove(objective, encoded, pad)
        except Exception as error:  # families that pad, pool or reorder inside do not fit in here in many ways
            raise self._unfit() from error

    def feed(self, batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """A batch with `hidden` [rows, tokens, width], computed where it has none, and no more tokens than that has."""
        hidden = batch["hidden"] if "hidden" in batch else self.compute(batch)
        return {name: tensor[:, : hidden.shape[1]] for name, tensor in batch.items()} | {"hidden": hidden}

    def compute(self, batch: Batch) -> "Tensor":
        """[rows, tokens, width] what the trunk makes of a batch, zero where padding stands."""
        lengths, out = batch["attention_mask"].sum(-1), None
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            hidden = self.unpadded({name: tensor[rows, :length] for name, tensor in batch.items()})
            if out is None:
                tokens = hidden.shape[1] if self.place is not None else batch["input_ids"].shape[1]
                out = hidden.new_zeros(len(lengths), tokens, hidden.shape[-1])
            out[rows, : hidden.shape[1]] = hidden
        assert out is not None
        return out

    def unpadded(self, batch: Batch) -> "Tensor":
        """The same of rows that are equally long; [rows, 1, width] where one place alone is read."""
        import torch

        rows, length = batch["input_ids"].shape
        least = LEAST if self.narrow else -(-LEAST // length)
        index, training = torch.arange(max(rows, least)) % rows, self.model.training
        of_model = {name: tensor for name, tensor in batch.items() if name != "reference"}
        given = {name: tensor[index.to(tensor.device)] for name, tensor in of_model.items()}
        if self.lower:
            self.lower.hidden = given.pop("hidden", None)
        self.hidden = None
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            hidden = self._run(given)[:rows]
        self.model.train(training)
        return hidden if self.place is None or self.narrow else hidden[:, [self.place]]

    def _part_encoder(self) -> None:
        from transformers.modeling_outputs import BaseModelOutput

        encoder: Any = self.model.get_encoder()
        whole = encoder.forward
        self._run = lambda batch: whole(**batch).last_hidden_state

        def forward(*args: Any, **kwargs: Any) -> Any:
            return whole(*args, **kwargs) if self.hidden is None else BaseModelOutput(last_hidden_state=self.hidden)

        encoder.forward = forward

    def _part_blocks(self, layers: int) -> None:
        self.running = False
        blocks = [block.module for block in stacks(self.model)[0].blocks[:layers]]
        for block in blocks:
            block.forward = partial(self._stand_in, block.forward, block is blocks[-1])
        cached = {"use_cache": False} if getattr(self.model.config, "use_cache", False) else {}
        base: Any = self.model.base_model

        def run(batch: Batch) -> "Tensor":
            self.running = True
            try:
                base(**batch, **cached)
            except _Reached as reached:
                return reached.args[0]
            finally:
                self.running = False
            raise self._unfit()

        self._run = run

    def _stand_in(self, forward: Any, uppermost: bool, *args: Any, **kwargs: Any) -> Any:
        """In place of a block: nothing is computed where the trunk's output is given."""
        if self.hidden is not None:
            return self.hidden if self.rest is None else (self.hidden, *self.rest)
        out = forward(*args, **kwargs)
        if not (self.running and uppermost):
            return out
        if isinstance(out, tuple):
            out, *rest = out
            self.rest = tuple(rest)
        raise _Reached(out)

    def _take(self, model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.hidden = kwargs.pop("hidden", None)
        return args, kwargs

    def _refuse_longer(self, encoded: Examples, pad: int) -> None:
        """Raise NotKept where the model pads inside (Longformer): more tokens come out than went in."""
        ordered = np.argsort(encoded.ids.lengths, kind="stable")
        for row in (ordered[:1], ordered[-1:]):
            batch, _ = collate(encoded, row, pad, self.accelerator.device)
            if self.unpadded(batch).shape[1] > batch["input_ids"].shape[1]:
                raise self._unfit()

    def _unfit(self) -> NotCached:
        return NotCached(f"the family {self.model.config.model_type} can't be parted below its lowest trained layer")

    def _prove(self, objective: "Objective", encoded: Examples, pad: int) -> None:
        """Compare with the whole model on a short row, and find out whether the head reads one place alone."""
        import torch

        row = np.argsort(np.where(encoded.ids.lengths > 2, encoded.ids.lengths, np.iinfo(np.int64).max))[:1]
        batch, targets = collate(encoded, row, pad, self.accelerator.device)
        self.model.to(self.accelerator.device).eval()

        def logits(batch: "dict[str, Tensor]") -> "Tensor":
            with torch.no_grad(), self.accelerator.autocast():
                return objective.forward(self.model, batch, targets).float()

        whole = logits(batch)
        self._refuse_longer(encoded, pad)
        self.narrow = self.unpadded(batch).shape[1] < batch["input_ids"].shape[1]

        def alike(found: "Tensor") -> bool:
            return found.shape == whole.shape and bool((found - whole).abs().max() <= ROUNDING * whole.abs().max())

        if any(part is not None for part in self.rest or ()) or not alike(logits(fed := self.feed(batch))):
            raise self._unfit()
        for place in (FIRST, LAST) if fed["hidden"].shape[1] > 2 and not objective.per_token else ():
            alone = torch.full_like(fed["hidden"], torch.nan)  # spreads to all that reads any other place
            alone[:, place] = fed["hidden"][:, place]
            if alike(logits(fed | {"hidden": alone})):
                self.place = place
                if alike(logits(self.feed(batch))):
                    return
        self.place = None
