"""The budget that a command takes without --budget is printed, where something is trained."""

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
