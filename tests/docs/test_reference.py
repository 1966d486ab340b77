"""The reference pages are current and complete, and every page has a place in the site.

`pytest tests/docs/test_reference.py`
"""

import subprocess
import sys
import tomllib

import pytest
from page_blocks import ROOT


def test_the_reference_is_current():
    script = str(ROOT / "docs" / "scripts" / "reference.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["recipe-reference.md", "gate-reference.md"])
def test_every_field_has_a_type_a_default_a_meaning_and_an_example(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in row.replace("\\|", "").strip("|").split("|")]
        assert len(cells) == 5, row
        assert all(cells[:4]), row
        assert cells[4] or "section" in cells[1] or "empty" in cells[2], row


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed(nav)) == sorted(pages)


def listed(entry):
    """All pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in listed(part)]
