"""The hooks of a regularizer, all optional."""

from pipeline_lib.schema import Section


class RegularizerSection(Section):
    """What holds a model back from over-fitting."""

    def weight_decay(self) -> float:
        """The decay of AdamW on matrices; biases and norms have none."""
        return 0.0
