"""Text is made safe to show in a terminal."""

from multilayer.core.text import sanitize, sanitize_data

CODES = "\x1b[2J \x9b31m \u202e \x07 \x00 \u2028 \ud800"
SHOWN = r"\x1b[2J \x9b31m \u202e \x07 \x00 \u2028 \ud800"


def test_letters_that_act_are_shown_as_python_writes_them() -> None:
    """All others stay, of whatever script; so do lines, but in a name."""
    assert sanitize(CODES) == SHOWN
    assert sanitize("é 中文 🙂\n\tπ") == "é 中文 🙂\n\tπ"
    assert sanitize("a\nb", keep="") == r"a\nb"
    assert sanitize_data({CODES: [CODES, 1, None, True]}) == {SHOWN: [SHOWN, 1, None, True]}


def test_a_number_that_is_too_long_to_write_is_text() -> None:
    """Python refuses to write it in decimal, as a YAML file may hold it in hexadecimal."""
    assert sanitize_data([16**9000 - 1]) == ["0x" + "f" * 9000]
