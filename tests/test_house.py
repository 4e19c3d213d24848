"""The house rules that can be read off the tree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("registry", "adapters", "policies", "types")
TEXT = {"", ".py", ".md", ".toml", ".lock", ".js", ".css", ".html", ".sql", ".json", ".yml", ".yaml", ".sh", ".txt"}
MODULE_LINES = 500
UNWELCOME = {"utils", "util", "helpers", "common", "manager", "service", "base", "auxiliary", "lib", "misc"}
# Spelt in pieces, so that this file does not contain what it looks for.
ELSEWHERE = re.compile(
    "|".join(
        (
            r"/(?:ro" + r"ot|ho" + r"me|Us" + r"ers)/[a-z]",
            r"(?<![\w.])/wo" + r"rk/",
            r"py" + r"pi\.(?:org|python)",
            r"files\.python" + r"hosted",
            r"registry\.np" + r"mjs",
            r"/opt/wh" + r"eels",
            r"before-st" + r"op",
            r"\bissues sh" + r"ow\b",
            r"--(?:extra-)?index-u" + r"rl|--find-li" + r"nks",
        )
    ),
)


def tree() -> Iterator[Path]:
    """The files that git has or would have."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            yield path


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of the text files."""
    for path in tree():
        if path.suffix in TEXT:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace")


def modules() -> list[Path]:
    return [path for path in tree() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in SOURCES]


def test_no_machine_path_and_no_registry_address_is_in_the_tree() -> None:
    found = [f"{name}: {match.group()}" for name, text in texts() for match in ELSEWHERE.finditer(text)]
    assert found == []


def test_types_is_no_package() -> None:
    assert not (ROOT / "types" / "__init__.py").exists()


def test_modules_are_named_for_what_they_hold_and_fit_in_a_head() -> None:
    assert [str(path) for path in modules() if path.stem in UNWELCOME] == []
    assert [str(path) for path in modules() if len(path.read_text().splitlines()) > MODULE_LINES] == []


def test_nothing_is_left_to_do_and_nothing_is_faked() -> None:
    unfinished = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert [name for name, text in texts() if name.endswith((".py", ".js")) and unfinished.search(text)] == []
    faked = re.compile(r"unittest\.mo" + r"ck|Async" + r"Mock|\bmonkey" + r"patch\b")
    assert [name for name, text in texts() if name.startswith("tests/") and faked.search(text)] == []


def test_the_locks_hold_every_dependency_with_hashes_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime = project["project"]["dependencies"] + groups["build"]
    for lock, needed in (("requirements-runtime.lock", runtime), ("requirements.lock", runtime + groups["dev"])):
        text = (ROOT / lock).read_text()
        assert "://" not in text, lock
        entries = re.split(r"\n(?=[a-z0-9])", text.partition("\n")[2])
        pins = dict(re.findall(r"^([a-z0-9][\w.-]*)(?:\[[^]]*])?==([^ ;\\]+)", text, re.MULTILINE))
        assert [entry.split("==")[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []
        for requirement in map(Requirement, needed):
            pinned = pins.get(canonicalize_name(requirement.name))
            assert pinned is not None, f"{requirement.name} is not in {lock}: make lock"
            assert requirement.specifier.contains(pinned, prereleases=True), (
                f"{requirement} is {pinned} in {lock}: make lock"
            )
    everything = (ROOT / "requirements.lock").read_text()
    for line in re.findall(
        r"^[a-z0-9][^ ;]*==[^ ;\\]+", (ROOT / "requirements-runtime.lock").read_text(), re.MULTILINE
    ):
        assert line in everything, f"{line} differs between the locks: make lock"


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tree()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_scripts_can_be_run() -> None:
    for script in (*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"):
        assert script.stat().st_mode & 0o111, script
        assert script.read_text().startswith("#!"), script
