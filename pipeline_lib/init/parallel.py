"""Detect parallel files such as train.en and train.de, or seq.in and seq.out, whose lines correspond."""

import re
from collections import defaultdict
from pathlib import Path

from pipeline_lib.errors import RecipeError
from pipeline_lib.init.encoding import find_encoding, text_source
from pipeline_lib.init.files import FoundFile, split_of
from pipeline_lib.init.formats import BY_SUFFIX, Fields, suffix_of
from pipeline_lib.init.question import Answer, Request, Undecided

DIRECTIONS = (
    ("in", "out"),
    ("src", "tgt"),
    ("source", "target"),
    ("src", "trg"),
    ("complex", "simple"),
)
"""Parts of names that say which file is read and which is written."""
LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")
Group = dict[str, FoundFile]
"""The files of one split, by the part of their names in which they differ."""


def parallel_groups(files: list[FoundFile]) -> list[Group]:
    """Files that differ in one part of their names and have equally many lines."""
    groups: dict[tuple[Path, str], Group] = defaultdict(dict)
    for file in files:
        if suffix_of(file.path) in (*BY_SUFFIX, ".json"):
            continue
        parts = file.path.name.split(".")
        for place, part in enumerate(parts):
            if _may_differ(part):
                pattern = ".".join([*parts[:place], "*", *parts[place + 1 :]])
                groups[file.path.parent, pattern][part] = file
    groups_of_several = [group for group in groups.values() if len(group) > 1]
    _refuse_unequal(groups_of_several)
    return [group for group in groups_of_several if _are_equally_long(group)]


def _may_differ(part: str) -> bool:
    words = {word for pair in DIRECTIONS for word in pair}
    known = part in words or (
        LANGUAGE.fullmatch(part) and part not in ("gz", "bz2", "xz", "zst", "lz4", "txt", "tok", "ids")
    )
    return bool(known) and split_of(Path(part)) is None


def _refuse_unequal(groups: list[Group]) -> None:
    """Raise RecipeError for two files that are parallel by their names, but have different numbers of lines."""
    for group in groups:
        for pair in DIRECTIONS:
            if set(pair) <= set(group) and not _are_equally_long({part: group[part] for part in pair}):
                names = " and ".join(group[part].path.name for part in pair)
                counts = " and ".join(f"{_count(group[part].path):,}" for part in pair)
                hint = "Line n of one file must belong to line n of the other"
                raise RecipeError("DATA", names, f"have {counts} lines", hint)


def _are_equally_long(group: Group) -> bool:
    return len({_count(file.path) for file in group.values()}) == 1


def _count(file: Path) -> int:
    return sum(1 for _ in text_source(file).lines(file))


def choose_sides(groups: list[Group], request: Request) -> tuple[Fields, list[FoundFile]]:
    """The source's fields, and the files of the side that is read.

    Raises Undecided where it is unknown which side that is.
    """
    sides = _sides(groups, request)
    files = [group[sides[0]] for group in groups if sides[0] in group and sides[1] in group]
    fields = {"kind": "parallel", "source_language": sides[0], "target_language": sides[1]}
    encodings = {find_encoding(group[side].path) for group in groups for side in sides if side in group} - {None}
    return {**fields, **({"encoding": encodings.pop()} if len(encodings) == 1 else {})}, files


def _sides(groups: list[Group], request: Request) -> tuple[str, str]:
    names = sorted(set.intersection(*(set(group) for group in groups)))
    given = request.columns.get("source", ""), request.columns.get("target", "")
    if given[0] in names and given[1] in names:
        return given
    for pair in DIRECTIONS:
        if set(pair) <= set(names):
            return pair
    explicit = all(file.explicit for group in groups for file in group.values())
    if len(names) == 2 and explicit:  # in the order in which the user named them
        first = next(iter(groups[0]))
        return first, names[1 - names.index(first)]
    pairs = [(one, other) for one in names for other in names if one != other]
    answers = [Answer(f"read {one}, write {other}", None, {"source": one, "target": other}) for one, other in pairs]
    problem = (
        f"The files are parallel in {', '.join(names)}, and it is unclear which side is the input and which the output"
    )
    raise Undecided(problem, answers)
