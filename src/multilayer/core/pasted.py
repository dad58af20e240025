"""Words of the command line that messages suggest: they mean the same when they are pasted."""

import re
from collections.abc import Sequence

PLAIN = r"(?!(?:true|false|null|nan|inf)$)(?:\.\./|/)*[a-z_][\w./+-]*"
"""A name or path that neither Hydra nor a shell takes for anything else; in any letters."""


def as_override(key: str, value: str | Sequence[str]) -> str:
    r"""The word that gives `key` a text or a list of texts, in quotes only where some must be.

    >>> print(as_override("data.drop", ["a"]), as_override("data.drop", ["my col"]))
    data.drop=[a] "data.drop=['my col']"
    >>> print(as_override("data.target", "1"), as_override("data.decimal", ","))
    "data.target='1'" "data.decimal=','"
    """
    texts = [value] if isinstance(value, str) else value
    is_plain = all(re.fullmatch(PLAIN, text, re.ASCII | re.IGNORECASE) for text in texts)
    listed = ",".join(texts if is_plain else map(in_quotes, texts))
    word = f"{key}={listed if isinstance(value, str) else f'[{listed}]'}"
    return word if is_plain else for_shell(word)


def in_quotes(text: str) -> str:
    """A text as Hydra takes it literally."""
    doubled = re.sub(r"(\\*)(?='|$)", r"\1\1", text.replace("${", r"\${"))
    return "'" + doubled.replace("'", r"\'") + "'"


def for_shell(word: str) -> str:
    """A word for a shell, an interactive one too."""
    return '"' + re.sub(r'(["$`\\])', r"\\\1", word).replace("!", "\"'!'\"") + '"'
