"""Ask for a label as a word that a language model fills in: a template with slots, and a verbalizer."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.base import limit_of
from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SLOTS = re.compile(r"\{(\w*)\}")
SENTINEL = "<extra_id_0>"
SPARE = 4
"""Reserved tokens: two texts joined by their template may have a few more tokens than separately."""


class Verbalized(Section):
    """A label and the words that represent it."""

    label: Annotated[str, Field(min_length=1)]
    """The label as in the data."""
    words: Annotated[tuple[str, ...], Field(min_length=1)]
    """Words of one token each; the label's probability is the sum of theirs."""


class Cloze(Section):
    """Predict the words of a label with the pre-trained head instead of a new one, so that few rows suffice.

    p(y | x) = sum_{w in v(y)} exp(z_w) / sum_{y'} sum_{w in v(y')} exp(z_w), where z are the logits of the words
    at {mask} and v is the verbalizer (PET: Schick and Schuetze 2021, section 3.1; summed over all words of a label).
    {mask} is the mask token of BERT-like models and the first sentinel of T5; a decoder continues the template.
    """

    template: Annotated[str, Field(min_length=1)]
    """Text with slots, such as `{text} All in all, it was {mask}.`; `{text_pair}` is the second text."""
    verbalizer: Annotated[tuple[Verbalized, ...], Field(min_length=2)]
    """The words of each label."""

    @model_validator(mode="after")
    def _has_its_slots(self) -> Self:
        slots = SLOTS.findall(self.template)
        if unknown := sorted(set(slots) - {"text", "text_pair", "mask"}):
            raise ValueError(f"the template has a slot {{{unknown[0]}}}. Use {{text}}, {{text_pair}} and {{mask}}")
        if slots.count("text") != 1 or slots.count("mask") != 1:
            raise ValueError("the template must contain {text} and {mask} exactly once each. Write both")
        return self

    def encode(
        self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]], max_length: int | None
    ) -> list[list[int]]:
        """Return token ids of the filled template; only the texts are truncated, never the template.

        Raises RecipeError if the template continues after {mask} and the tokenizer has no token for a gap.
        """
        mark = _mark(tokenizer)
        if mark is None and not self.template.endswith("{mask}"):
            problem = "continues after {mask}, but the tokenizer has no token for a gap"
            raise RecipeError("objective.cloze.template", self.template, problem, "End it with {mask}")
        frame = len(tokenizer(self._fill(mark, "", ""))["input_ids"])
        room = max(1, limit_of(tokenizer, max_length) - frame - SPARE)
        texts = []
        for row in rows:
            pair = _cut(tokenizer, row.get("text_pair") or "", room // 2, mark)
            pair_tokens = len(tokenizer(pair, add_special_tokens=False)["input_ids"]) if pair else 0
            texts.append(self._fill(mark, _cut(tokenizer, row["text"], room - pair_tokens, mark), pair))
        return tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]

    def _fill(self, mark: str | None, text: str, pair: str) -> str:
        """The template with its slots filled; a decoder's ends before the space that its next word begins with."""
        parts = {"text": text, "text_pair": pair, "mask": mark or ""}
        filled = SLOTS.sub(lambda slot: parts[slot[1]], self.template)
        return filled if mark else filled.rstrip()

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """Load the base with its pre-trained head, and the words of the labels as `cloze_words`.

        Raises RecipeError for a base without such a head, a label without words, or a word of several tokens.
        """
        import transformers

        from pipeline_lib.models.base_model import load_config, load_tokenizer
        from pipeline_lib.models.loading import load_pretrained

        known, tokenizer = load_config(base), load_tokenizer(Path(base))
        kind: Any = transformers.AutoModelForCausalLM
        if known.is_encoder_decoder:
            _refuse_no_sentinel(tokenizer, base)
            kind = transformers.AutoModelForSeq2SeqLM
        elif tokenizer.mask_token is not None:
            kind = transformers.AutoModelForMaskedLM
        model: Any
        model, head = load_pretrained(kind, base, **config)
        if head:
            problem = "has no head that predicts words"
            raise RecipeError("model.base", base, problem, "Choose a base with one, or remove objective.cloze")
        model.cloze_words, model.cloze_mark = self._words(tokenizer, labels), _mark_id(tokenizer)
        return model, head

    def _words(self, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str]) -> list[list[int]]:
        """Token ids of each label's words; a word that follows a space is looked up with it."""
        words = {entry.label: entry.words for entry in self.verbalizer}
        if without := [label for label in labels if label not in words]:
            hint = f"Add {{label: {without[0]}, words: [...]}}"
            raise RecipeError("objective.cloze.verbalizer", sorted(words), f"has no word for {without[0]!r}", hint)
        space = " " if " {mask}" in self.template else ""
        return [[self._token(tokenizer, word, space) for word in words[label]] for label in labels]

    def _token(self, tokenizer: "PreTrainedTokenizerBase", word: str, space: str) -> int:
        ids = tokenizer(space + word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            problem = f"{word!r} is {len(ids)} tokens, not one" if len(ids) != 1 else f"{word!r} is unknown to the base"
            raise RecipeError("objective.cloze.verbalizer", word, problem, "Choose a more common word")
        return ids[0]

    def forward(self, model: Any, batch: "dict[str, Tensor]") -> "Tensor":
        """[rows, labels] logits: of each label's words in the place of {mask}, added as probabilities."""
        import torch

        rows = torch.arange(len(batch["input_ids"]), device=batch["input_ids"].device)
        if model.config.is_encoder_decoder:
            logits = model(
                **batch, decoder_input_ids=_decoder_prefix(model, batch["input_ids"]), use_cache=False
            ).logits[:, -1]
        elif model.cloze_mark is not None:
            logits = model(**batch).logits[rows, (batch["input_ids"] == model.cloze_mark).int().argmax(-1)]
        else:
            logits = model(**batch, use_cache=False).logits[rows, batch["attention_mask"].sum(-1) - 1]
        sizes = [len(words) for words in model.cloze_words]
        ids = torch.tensor([word for words in model.cloze_words for word in words], device=rows.device)
        return torch.stack([part.logsumexp(-1) for part in logits[:, ids].float().split(sizes, -1)], -1)


def _mark(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return the token for a gap; None if the tokenizer has none."""
    return tokenizer.mask_token or (SENTINEL if SENTINEL in tokenizer.all_special_tokens else None)


def _refuse_no_sentinel(tokenizer: "PreTrainedTokenizerBase", base: str) -> None:
    if _mark(tokenizer) != SENTINEL:
        problem = f"does not generate {SENTINEL}, after which the label is expected"
        raise RecipeError("model.base", base, problem, "Choose a base of T5's family, or remove objective.cloze")


def _mark_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    mark = _mark(tokenizer)
    return None if mark is None else tokenizer.convert_tokens_to_ids(mark)  # type: ignore[return-value]


def _cut(tokenizer: "PreTrainedTokenizerBase", text: str, room: int, mark: str | None) -> str:
    """Truncate a text to at most `room` tokens; mask tokens in the user's text are removed."""
    if mark:
        text = text.replace(mark, " ")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    if len(offsets) <= room:
        return text
    _, end = offsets[room - 1]  # end of the last token that fits
    return text[:end]


def _decoder_prefix(model: Any, ids: "Tensor") -> "Tensor":
    """Return T5's decoder input before the label [rows, n]: the virtual tokens of a deep prompt, then the sentinel."""
    import torch

    from pipeline_lib.data.examples import VIRTUAL
    from pipeline_lib.models.deep_prompts import has_deep_prompts

    parts = [ids.new_full((len(ids), 1), id) for id in (model.config.decoder_start_token_id, model.cloze_mark)]
    if has_deep_prompts(model):
        parts.insert(1, ids[ids <= VIRTUAL].view(len(ids), -1))
    return torch.cat(parts, -1)
