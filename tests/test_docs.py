"""The pages tell the truth: what is generated is current, links lead somewhere, every module says what it is."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for folder in (".", "docs", "src", "examples", "benchmarks")
    for page in (ROOT.glob("*.md") if folder == "." else (ROOT / folder).rglob("*.md"))
)

LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
MENTION = re.compile(r"docs/(?:[a-z0-9_-]+/)*[a-z0-9_-]+(?:\.[a-z]+)?")


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    """docs/generate.py, loaded and not run. It stops with a sentence where a docstring or a help text is missing."""
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_generated_pages_are_current(generator: dict[str, Any]) -> None:
    assert generator["stale"]() == [], "run `make docs`"


def test_every_module_says_what_it_is(generator: dict[str, Any]) -> None:
    assert len(list(generator["modules"]())) == len(list((ROOT / "src" / "unchoke").rglob("*.py")))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("BEP 3", {3}),
        ("(BEP 3, 7, 15) and BEP 6", {3, 6, 7, 15}),
        ("BEP 3 and BEP 6 as records", {3, 6}),
        ("BEP 9, 53): see also 12", {9, 53}),
        ("no proposal, 3", set()),
    ],
)
def test_beps_are_found_in_docstrings(generator: dict[str, Any], text: str, numbers: set[int]) -> None:
    assert generator["beps_of"](text) == numbers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (heading and heading not in anchors(target)):
            dead.append(link)
    assert not dead


def test_pages_mentioned_in_the_code_exist() -> None:
    dead = []
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), ROOT / "Makefile"]:
        for mention in MENTION.findall(path.read_text(encoding="utf-8")):
            if not (ROOT / mention).exists() and not list(ROOT.glob(f"{mention}*.md")):
                dead.append(f"{path.name}: {mention}")
    assert not dead


def test_no_page_names_a_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(?:home|root|work|Users)/\w", page.read_text(encoding="utf-8")), page


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_on_a_page_compiles_and_its_imports_exist(page: Path) -> None:
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)):
        tree = compile(code, f"{page.name}: {number}", "exec", ast.PyCF_ONLY_AST)
        imports: list[ast.stmt] = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page.name, "exec"), {})
