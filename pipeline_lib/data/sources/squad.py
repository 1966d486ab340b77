"""SQuAD 1.1 and 2.0 JSON: questions about paragraphs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.json import load_json
from pipeline_lib.data.sources.text_file import TextSource, flaw
from pipeline_lib.errors import RecipeError


class Squad(TextSource):
    """SQuAD files."""

    suffixes: ClassVar = (".json",)

    kind: Literal["squad"]
    """SQuAD 1.1 or 2.0 JSON, read into memory; rows have id, title, context, question, answers and is_impossible."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield one row per question; `line` is the question's 1-based position in the file."""
        for number, (title, context, question) in enumerate(_questions(file, self.lines(file)), 1):
            yield _row(number, title, context, question)


def _questions(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    document = load_json(file, lines)
    try:
        for article in document["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield article.get("title", ""), paragraph["context"], question
    except (KeyError, TypeError, AttributeError) as error:
        hint = "The file must have `data` with `paragraphs` with `context` and `qas`; for other files use `kind: json`"
        raise RecipeError("data.source", str(file), f"not SQuAD JSON ({error!r})", hint) from error


def _row(line: int, title: str, context: str, question: dict[str, Any]) -> Row | Unusable:
    try:
        texts = [answer["text"] for answer in question.get("answers", [])]
        starts = [answer["answer_start"] for answer in question.get("answers", [])]
        for text, start in zip(texts, starts):
            if start < 0 or not context.startswith(text, start):
                return Unusable(line, f"the answer {text!r} is not at character {start} of the context")
        if problem := flaw(context + question["question"]):
            return Unusable(line, problem)
        answers = {"text": texts, "answer_start": starts}
        values = {"id": question["id"], "title": title, "context": context, "question": question["question"]}
        return Row(line, {**values, "answers": answers, "is_impossible": question.get("is_impossible", False)})
    except (KeyError, TypeError, AttributeError) as error:
        return Unusable(line, f"not a SQuAD question: {error!r}")
