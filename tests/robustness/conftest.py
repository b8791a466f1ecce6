import pytest


@pytest.fixture
def figure(record_property):
    """Note a row of the table that ends a run: how many cases were tried and how many held."""

    def note(trial: str, tried: int, held: int, worst: float | None = None) -> None:
        record_property('figure', (trial, tried, held, worst))

    return note
