"""What objectives on dialogues share: the decoder, and how it answers a prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from pipeline_lib.objectives.base import ObjectiveSection
from pipeline_lib.objectives.messages import exchange, tools_of
from pipeline_lib.objectives.template_text import GENERATION
from pipeline_lib.objectives.values import is_missing

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.models.generation import Generated


class DialogueObjective(ObjectiveSection):
    """An objective that trains a decoder on dialogues and can have it answer prompts."""

    dedup_keys: ClassVar = ("messages",)
    per_token: ClassVar = True
    generates: ClassVar = True

    chat_template: str | None = None
    """Chat template to use instead of the base's own: a file with a Jinja template, relative to the recipe, or the
    template itself; empty: the base's. It is saved with the trained model."""

    if TYPE_CHECKING:  # fields of the subclasses
        max_answer: int
        beams: int

    @field_validator("chat_template")
    @classmethod
    def _refuse_invalid_template(cls, template: str | None) -> str | None:
        if template is not None:
            _parse(template)
        return template

    def tokenizer(self, base: Path) -> "PreTrainedTokenizerBase":
        """The base's tokenizer with the chat template of the recipe, if it sets one."""
        tokenizer = super().tokenizer(base)
        if self.chat_template is not None:
            tokenizer.chat_template = self.chat_template
        return tokenizer

    def columns_beside(self, columns: "Columns") -> dict[str, str]:
        """The columns of tools and system prompts that the recipe names."""
        named = {"tools": columns.tools, "system": columns.system}
        return {role: column for role, column in named.items() if column}

    def input_roles_for(self, columns: "Columns") -> dict[str, bool]:
        """With the optional tools and system prompts that the model is trained on."""
        return {**self.input_roles, **dict.fromkeys(self.columns_beside(columns), False)}

    def clean_input(self, row: Mapping[str, Any], input_roles: Mapping[str, bool]) -> dict[str, Any]:
        """A prompt with its optional input; a list of messages stays one."""
        given = {role: row[role] for role in input_roles if not is_missing(row.get(role))}
        tools_of(given.get("tools"))
        exchange(given)  # raises ValueError for what is empty, and for what is neither a text nor messages
        return given

    def read_input(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """With its rendering, so that a prompt which the chat template refuses has no answer."""
        return self.read_row(tokenizer, row)

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForCausalLM."""
        from transformers import AutoModelForCausalLM

        from pipeline_lib.models.loading import load_pretrained

        return load_pretrained(AutoModelForCausalLM, base, **config)

    @property
    def max_generated(self) -> int:
        """Return `max_answer`."""
        return self.max_answer

    def generation_inputs(self, encoded: "Examples") -> "Examples":
        """The dialogues up to their last answer."""
        from pipeline_lib.objectives.answering import prompts

        return prompts(encoded)

    def generate(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        batch: "dict[str, Tensor]",
        targets: "Tensor",
    ) -> "list[Generated]":
        """The likeliest continuation up to the end of the turn, without what the template puts around an answer."""
        from pipeline_lib.objectives.answering import answers

        return answers(model, tokenizer, batch, self.max_answer, self.beams)


def _parse(template: str) -> None:
    """Raise ValueError if a template is not valid Jinja."""
    from jinja2 import Environment, TemplateSyntaxError

    unmarked = GENERATION.sub("", template)  # transformers adds this tag to Jinja's own
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(unmarked)
    except TemplateSyntaxError as error:
        raise ValueError(f"is not a valid Jinja template (line {error.lineno}: {error.message})") from None
