"""The budget that a command takes without --budget is printed, where something is trained."""

from pathlib import Path

import pytest

from lartpc_ray.runtime.arguments import chosen_space
from lartpc_ray.tune import __main__ as tune


@pytest.mark.parametrize(("words", "printed"), [((), True), (("--run", "12ab"), False)])
def test_the_budget_is_printed_where_something_is_trained(
    words: tuple[str, ...], printed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    chosen_space(tune.parser().parse_args(["michel", *words]))
    assert ("--budget chooses another" in caplog.text) == printed


@pytest.mark.parametrize(
    ("about", "printed"), [("about: quick, ", "smoke (quick); "), ("", "smoke; ")]
)
def test_a_budget_is_printed_with_its_description_if_it_has_one(
    about: str, printed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    space = tmp_path / "mine.yaml"
    space.write_text(
        f"task: clustering\nbudgets:\n  smoke: {{{about}trials: 1, steps: 10, min_steps: 5}}\n"
    )
    chosen_space(tune.parser().parse_args([str(space)]))
    assert f"budget: {printed}--budget chooses another" in caplog.text
