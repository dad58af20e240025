"""The table of files in which faults are planted, and of their tests."""

from mutation import AREAS, PACKAGE, ROOT, own_tests


def test_each_file_is_there_and_has_tests() -> None:
    """A file that was renamed would silently be tried no more."""
    for files in AREAS.values():
        for name, more in files.items():
            source = PACKAGE / f"{name}.py"
            assert (ROOT / source).exists(), source
            assert all((ROOT / f"tests/{test}.py").exists() for test in more), name
            assert more or (ROOT / own_tests(source)).exists(), name
