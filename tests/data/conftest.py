"""How the tests of tables read small files."""

import pytest


@pytest.fixture
def few_rows_for_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small file has rows far behind those that the types are taken from."""
    monkeypatch.setattr("multilayer.data.table_io._ROWS_FOR_TYPES", 20)
