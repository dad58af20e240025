"""What counts as a missing value in a table, besides an empty field and `data.missing`."""

import polars as pl

SPELLED_MISSING = (
    *("nan", "+nan", "-nan", "nan(ind)", "-nan(ind)", "na", "n/a", "<na>", "#n/a", "#n/a n/a"),
    *("#na", "null", "(null)", "none", "nat", "missing", "\\n"),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
"""What numpy, pandas, R, Julia, spreadsheets and databases write for a missing value, in lower
case. Among numbers and dates it can mean nothing else; among words it may be a label."""

PLACEHOLDERS = ("?", "-", "--", ".", "..", "*")
"""What people write for a missing value; read as one only where the user says so."""


def is_spelled_missing(text: pl.Expr) -> pl.Expr:
    """Whether text is what some tool writes for a missing value."""
    return text.str.to_lowercase().is_in(SPELLED_MISSING)
