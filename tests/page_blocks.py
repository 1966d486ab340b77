"""The code blocks of README.md, CONTRIBUTING.md, deployments/README.md and docs/."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deployments/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its page, language and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        """Where it is, for the name of a test."""
        return f"{self.page}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All blocks of a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(str(page.relative_to(ROOT)), line, language, match[2]))
    return found


def commands(program: str) -> dict[str, list[str]]:
    """Each command of a program in the shell blocks, once, with its arguments; comments and variables are left out."""
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    found = {}
    for line in lines:
        words = shlex.split(line, comments=True) if re.match(rf"([A-Z_]+=\S+ )*(\S*/)?{program} ", line) else []
        while words and "=" in words[0]:
            del words[0]
        if words:
            found[" ".join([program, *words[1:]])] = words[1:]
    return found
