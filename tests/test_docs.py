"""What the docs say of the tree, and where their links lead."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "multilayer"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {each.strip().replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading in it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    """A page that no link leads to is not found."""
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert {each for each in pages if f"({each})" not in index} == {"index.md"}


def test_the_drawing_shows_the_packages_in_their_order() -> None:
    """As import-linter holds them, and as the folders are."""
    page = (ROOT / "docs" / "internals.md").read_text()
    drawing = page.split("```")[1]
    drawn = [re.findall(r"(?m)^  (\w+) ", level) for level in drawing.split("    |\n")]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [layer.split(" | ") for layer in contracts["contracts"][0]["layers"]]
    assert [sorted(level) for level in drawn] == [sorted(layer) for layer in layers]
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert {name for level in drawn for name in level} == folders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """By a path in the package, the tests or the repository; the changelog is history."""
    if page.name == "CHANGELOG.md":
        return
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    paths = re.findall(r"`(\w+(?:/\w+)+\.(?:py|yaml))`", text)
    folders = (ROOT, ROOT / "src", SOURCE, ROOT / "conf", ROOT / "tests")
    assert [path for path in paths if not any((each / path).is_file() for each in folders)] == []


def test_what_is_decided_where_the_docs_say() -> None:
    """Each row of the table names a file, and what in it decides."""
    page = (ROOT / "docs" / "internals.md").read_text()
    table = page.partition("## Where is it decided?")[2]
    rows = re.findall(r"(?m)^\| [^|]+ \| (.*`.*) \|$", table)
    named = re.findall(r"`(\w+/\w+\.py)` \(`(\w+)`\)", " ".join(rows))
    assert len(named) > 10
    for path, name in named:
        text = (SOURCE / path).read_text()
        assert re.search(rf"(?m)^(?:def |class )?{name}\b", text), (path, name)
