"""The lock file, its audit and the bill of materials. `pytest tests/supply_chain`."""

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline_lib"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)

found = importlib.util.spec_from_file_location("audit", Path(__file__).parent / "audit.py")
assert found and found.loader
audit = importlib.util.module_from_spec(found)
found.loader.exec_module(audit)


def pins(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return {canonicalize_name(package): version for package, version in PIN.findall(text)}


def test_the_lock_has_the_versions_that_are_tested():
    """`make lock` writes it anew."""
    tested, locked = pins("constraints.txt"), pins("requirements.lock")
    other = {
        name: (tested[name], locked[name]) for name in tested.keys() & locked.keys() if tested[name] != locked[name]
    }
    assert not other


def test_the_wheel_has_the_templates():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packaged = {file for pattern in setuptools["package-data"]["pipeline_lib"] for file in PACKAGE.glob(pattern)}
    templates = {*PACKAGE.rglob("*.jinja")}
    assert templates and templates <= packaged


def test_every_dependency_is_locked_and_in_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = pins("requirements.lock")
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), text


def test_every_locked_package_has_hashes():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert packages and all("--hash=sha256:" in line for line in packages)


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 of 1 packages looked up, 0 vulnerable"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            1,
            "a 1: CVE-1, fixed in 2",
        ),
        ([{"name": "a", "version": "1", "skip_reason": "not found"}], 3, "NOT AUDITED: 1 packages (a…): not found"),
        ([], 3, "NOT AUDITED"),
    ],
)
def test_an_audit_says_what_it_could_not_look_up(capsys, dependencies, code, said):
    assert audit.report(dependencies) == code
    out = capsys.readouterr()
    assert said in out.out + out.err


def test_no_package_of_the_developers_slows_every_start():
    """Whichever package brings the formats of JSON Schema doubles the time that importing Prefect takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(text) for text in [*project["dependencies"], *extras["demo"], *extras["dev"]]]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *requirement.extras)]
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in environments):
                waiting.append(needed)
    assert not {"rfc3987", "rfc3987-syntax"} & {name for name, *_ in seen}
