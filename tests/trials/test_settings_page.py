"""docs/settings.md: all settings there are, as the code has them now."""

from pathlib import Path

import pytest
from pydantic import Field

from lartpc_ray.settings import Settings
from lartpc_ray.trials.settings_page import _tables, page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def below(model: type[Settings]) -> list[type[Settings]]:
    return [one for child in model.__subclasses__() for one in (child, *below(child))]


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run: python -m lartpc_ray settings > docs/settings.md"


def test_every_group_of_settings_is_on_the_page() -> None:
    text = page()
    # records in a folder; what a worker of a prediction reads; the example of a docstring
    kept = (
        *("Plan", "Context", "Events", "Job", "Placement", "Size", "Effects"),
        *("EarlierResults", "EarlierTrial"),
    )
    groups = [
        group
        for group in below(Settings)
        if group.__module__.startswith("lartpc_ray.")
        and not group.__abstractmethods__
        and not group.__name__.endswith(kept)
    ]
    assert len(groups) > 20
    for group in groups:
        assert group.__doc__
        assert group.__doc__.splitlines()[0] in text, f"{group.__name__}: name it in reference.py"


class Small(Settings):
    """Settings of a test."""

    name: str = "x|y"
    sides: tuple[int, ...] | None = Field(default=None, description="a | b")


def test_a_row_by_hand() -> None:
    with pytest.raises(ValueError, match=r"^here\.name: no description"):
        list(_tables(Small, "here."))
    *_, table = _tables(Small, "here.", ["sides"])
    assert table.splitlines()[-1] == (
        "| `here.sides` | list of: whole number or `null` | `null` |  | a \\| b |"
    )
