"""Text of others in Markdown: it is shown as it is, and neither formats, links nor runs."""

import re

NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "@": "&#64;"}

SPECIAL = re.compile(
    r"""
      [&<>|@]                                # tags, entities, cells, addresses
    | [\\`*$~]                               # code, stress, formulas
    | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])   # stress; within a word it is none
    | \](?=\s*[(\[])                         # links and images
    | (?<=:)// | (?<=www)\.                  # addresses that become links by themselves
    """,
    re.VERBOSE | re.IGNORECASE,
)

FENCE = re.compile("`+")


def escape(text: str) -> str:
    r"""Text in a line, a bullet or a cell.

    >>> escape("<b> and [x](http://a) in validation/calibration_error [0.1, 0.2]")
    '&lt;b&gt; and [x\\](http:\\/\\/a) in validation/calibration_error [0.1, 0.2]'
    """
    line = " ".join(text.split())
    return SPECIAL.sub(lambda found: NAMED.get(found[0]) or escaped(found[0]), line)


def escaped(special: str) -> str:
    r"""Each letter behind a backslash.

    >>> escaped("//")
    '\\/\\/'
    """
    return "".join(f"\\{letter}" for letter in special)


def code_block(command: str) -> str:
    """A command as a block of code, which no line of it ends."""
    longest = max(map(len, FENCE.findall(command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}bash\n{command}\n{fence}"
