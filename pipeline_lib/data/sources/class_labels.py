"""Class label names that Hugging Face `datasets` stores in the schema of an Arrow or Parquet file."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def class_labels(schema: "pyarrow.Schema") -> dict[str, list[str]]:
    """Return the label names of each class-label column (or column of lists of class labels), by integer value."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        by_column = {column: _names(feature) for column, feature in features.items() if column in schema.names}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in by_column.items() if names}


def _names(feature: Any) -> list[str] | None:
    """Return the class names of a feature, unwrapping lists and sequences; None if it is not a class label."""
    while isinstance(feature, (list, dict)):
        if isinstance(feature, list):
            feature = feature[0] if feature else None
        elif feature.get("_type") == "ClassLabel":
            return [str(name) for name in feature["names"]]
        else:
            feature = feature.get("feature")
    return None


def replace_label_ids(value: Any, names: list[str]) -> Any:
    """Replace integer labels by their names, also in lists; -1, which marks an unlabelled row, becomes None."""
    if isinstance(value, list):
        return [replace_label_ids(item, names) for item in value]
    if isinstance(value, int) and value < len(names):
        return names[value] if value >= 0 else None
    return value
