"""One thing that a sweep teaches beside its winner, as a sentence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A sentence, and what it is about in a few words."""

    title: str
    text: str


def number(value: float | None) -> str:
    """A number as the report writes it.

    >>> number(0.34220001), number(1234567.0), number(None)
    ('0.3422', '1.235e+06', '-')
    """
    return "-" if value is None else f"{value:.4g}"
