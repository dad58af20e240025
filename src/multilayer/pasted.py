"""Words of the command line that messages suggest: they mean the same when they are pasted."""

import re

PLAIN = r"(?!(?:true|false|null|nan|inf)$)[a-z_][a-z0-9_.-]*"
"""A name that neither Hydra nor a shell takes for anything else; in any letters."""


def in_quotes(value: str) -> str:
    """A value as Hydra takes it literally.

    >>> in_quotes("'")
    "'\\\\''"
    """
    doubled = re.sub(r"(\\*)(?='|$)", r"\1\1", value.replace("${", r"\${"))
    return "'" + doubled.replace("'", r"\'") + "'"


def override(key: str, value: str) -> str:
    """A word for a shell, an interactive one too."""
    word = re.sub(r'(["$`\\])', r"\\\1", f"data.{key}={value}")
    return '"' + word.replace("!", "\"'!'\"") + '"'


def names(key: str, *columns: str) -> str:
    """The word that gives a list of columns, in quotes only where some must be.

    >>> print(names("drop", "a"), names("drop", "my col"), names("drop", "1"))
    data.drop=[a] "data.drop=['my col']" "data.drop=['1']"
    """
    if all(re.fullmatch(PLAIN, each, re.ASCII | re.IGNORECASE) for each in columns):
        return f"data.{key}=[{','.join(columns)}]"
    return override(key, f"[{','.join(map(in_quotes, columns))}]")
