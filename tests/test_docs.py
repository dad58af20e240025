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


def test_files_that_the_walk_names_are_there() -> None:
    """Each path in the page on internals."""
    page = (ROOT / "docs" / "internals.md").read_text()
    paths = re.findall(r"`(\w+/\w+\.py)`", page)
    assert len(paths) > 20
    assert [path for path in paths if not (SOURCE / path).is_file()] == []
