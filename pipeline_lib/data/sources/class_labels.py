"""Names of labels that Hugging Face's `datasets` keeps as integers, from the schema of an Arrow or Parquet file."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def class_labels(schema: "pyarrow.Schema") -> dict[str, list[str]]:
    """The names of each column of class labels, or of lists of them, in the order of their integers."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _names(feature) for column, feature in features.items() if column in schema.names}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in found.items() if names}


def _names(feature: Any) -> list[str] | None:
    while isinstance(feature, (list, dict)):
        if isinstance(feature, list):
            feature = feature[0] if feature else None
        elif feature.get("_type") == "ClassLabel":
            return [str(name) for name in feature["names"]]
        else:
            feature = feature.get("feature")
    return None


def named(value: Any, names: list[str]) -> Any:
    """Integer labels as their names, alone or in lists; the -1 of a test set without labels is None."""
    if isinstance(value, list):
        return [named(item, names) for item in value]
    if isinstance(value, int) and value < len(names):
        return names[value] if value >= 0 else None
    return value
