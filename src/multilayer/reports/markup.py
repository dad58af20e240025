"""Others' text in Markdown: it is shown as it is, and neither formats, links nor runs."""

import re
from collections.abc import Iterable, Sequence

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "@": "&#64;"}

_SPECIAL = re.compile(
    r"""
      [&<>|@]                                # tags, entities, cells, addresses
    | [\\`*$~]                               # code, emphasis, formulas
    | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])   # emphasis; within a word it is none
    | \](?=\s*[(\[])                         # links and images
    | (?<=:)// | (?<=www)\.                  # addresses that become links by themselves
    """,
    re.VERBOSE | re.IGNORECASE,
)


def escape(text: str) -> str:
    r"""Text in a line, a bullet or a cell.

    >>> escape("<b> and [x](http://a) in validation/calibration_error [0.1, 0.2]")
    '&lt;b&gt; and [x\\](http:\\/\\/a) in validation/calibration_error [0.1, 0.2]'
    """

    def escaped(found: re.Match[str]) -> str:
        return _ENTITIES.get(found[0]) or "".join(f"\\{letter}" for letter in found[0])

    return _SPECIAL.sub(escaped, " ".join(text.split()))


def code_block(command: str) -> str:
    """A command as a block of code, which no line of it ends."""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}bash\n{command}\n{fence}"


def paragraph(lines: Iterable[str]) -> str:
    """Lines of one paragraph."""
    return "  \n".join(map(escape, lines))


def to_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; of cells the first line, of long ones its beginning."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[escape(_first_line(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _first_line(text: str, limit: int = 160) -> str:
    """The first line of a text, cut where it is long."""
    line = text.partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"
