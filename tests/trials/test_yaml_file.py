from pathlib import Path

import pytest

from lartpc_ray.trials.space_file import parse_setting, read_space
from lartpc_ray.trials.yaml_file import MAX_BYTES, parse_value, parse_yaml, read_yaml

BUDGETS = "budgets:\n  smoke: {trials: 2, steps: 4, min_steps: 2}\n"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [*{b}, *{b}]\n" for b, c in zip("abcdefghijklmno", "bcdefghijklmnop", strict=True)
)


def test_values_are_those_of_json() -> None:
    text = "[1, -2, 1e-3, .5, true, Null, ~, yes, 010, 1_0, 1:30, 2001-01-01, '3', 0x1F]"
    expected = [1, -2, 0.001, 0.5, True, None, None, "yes", 10, "1_0", "1:30", "2001-01-01", "3"]
    assert parse_value(text, "") == [*expected, "0x1F"]
    assert parse_value("", "") is None


def test_aliases_and_merge_keys_repeat_values_and_keep_lines() -> None:
    text = "a: &a {x: 1, y: [2]}\nb:\n  <<: *a\n  x: 3\nc: *a\n"
    file = parse_yaml(Path("f.yaml"), text.encode())
    assert file.content["b"] == {"x": 3, "y": [2]}
    assert file.content["c"] == file.content["a"]
    assert file.lines["b.x"] == 4
    assert file.position("b.y") == "f.yaml:3: b.y"
    assert file.position("c.y") == "f.yaml:5: c.y"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", r"2: a: given twice \(also line 1\)"),
        ("a: [1, 2", "1: not YAML: expected ',' or ']'"),
        ('a: "x', "1: not YAML: found unexpected end of stream"),
        ("a: 1\nb: \x07", r"2: not YAML: character '\\x07'"),
        ("a: !!set {b}", "1: tag tag:yaml.org,2002:set: write the value without a tag"),
        ("a: !!python/object/apply:os.system [ls]", "1: tag .*python/object"),
        ("a: !!binary aGk=", "1: tag"),
        ("a: &a [*a]", r"1: \*a: an alias inside its own value"),
        ("a: *b", r"1: \*b: no anchor of this name"),
        ("1: a", "1: key 1: a key must be text"),
        ("null: a", "1: key null: a key must be text"),
        ("? [a, b]\n: 1", "1: a key must be text"),
        ("a: .nan", "1: a: .nan: not a finite number"),
        ("a: [1, -.INF]", "1: a.1: -.INF: not a finite number"),
        ("a: 1e999", "1: a: 1e999: not a finite number"),
        ("a: 9223372036854775808", "1: a: 9223372036854775808: a whole number beyond 64 bits"),
        (f"a: {'9' * 5000}", "1: a: 9{40}: a whole number beyond 64 bits"),
        ("a: 1\n---\nb: 2", r"2: a second document \(---\)"),
        ("a: " + "[" * 3000, "1: more than 30 brackets"),
        ("{a: " * 3000, "1: more than 30 brackets"),
        (BOMB, "1[0-9]: more than 20,000 values"),
        ("a: &a " + "x" * 90_000 + "\nb: [" + "*a, " * 40 + "]", "2: more than 20,000 values"),
        ("x" * 300 + ": 1", "1: a key of 300 characters"),
        ("? " + "x" * 2000 + "\n: 1", "1: a key of 2000 characters"),
        ("b:\n  <<: 3", "2: <<: takes a mapping"),
        (r'a: [1, "\ud800x"]', r"1: '\\ud800x': half a character; write UTF-8"),
        (r'"\udfff": 1', r"1: '\\udfff': half a character"),
        ("hello", " must be a mapping"),
        ("", " must be a mapping"),
        ("- a", " must be a mapping"),
        ("a" * (MAX_BYTES + 1), " longer than 100,000 characters"),
    ],
)
def test_other_content_is_refused_in_one_line_with_the_file(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^f.yaml:({reason})") as caught:
        parse_yaml(Path("f.yaml"), text.encode())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_other_encodings_and_other_things_than_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xbc")
    assert read_yaml(path).content == {"a": "ü"}
    for content in ("a: 1\nb: ü".encode("latin-1"), "a: 1".encode("utf-16")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"f.yaml:[12]: not UTF-8 text"):
            read_yaml(path)
    with pytest.raises(ValueError, match="/dev/zero: a folder, pipe or device"):
        read_yaml(Path("/dev/zero"))
    with pytest.raises(ValueError, match="a folder, pipe or device"):
        read_yaml(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fixed: [a, b]\n", r":4: fixed: \['a', 'b'\]: write a mapping"),
        ("search: [a, b]\n", ":4: search: .*: write a mapping"),
        ("first: a\n", ":4: first: 'a': write a mapping"),
        ("fixed: 2001-01-01\n", ":4: fixed: '2001-01-01': write a mapping"),
        ("search: {network.filters: 2001-01-01}\n", ":4: search.network.filters: write one of"),
        (
            "search: {network.filters: {choice: {a: 1}}}\n",
            ":4: search.network.filters: .*two values",
        ),
        ("costs: {a: 1}\n", ":4: costs: .*: write a list"),
        ("costs: [[seconds_an_event]]\n", ":4: costs: .*: write a list"),
        ("costs: [training_gib, training_gib]\n", ":4: costs: .*given twice"),
        ("series: [1]\n", ":4: series: write a list of lists"),
        ("series: [{a: b}]\n", ":4: series: write a list of lists"),
        (
            "fixed: {task.init_margin: 0.1, task.start_margin: 0.1}\n",
            ":4: fixed.task.start_margin: task.init_margin is given twice",
        ),
        ("task: [a]\n", ":4: task: given twice"),
        ("budgets: smoke\n", ":4: budgets: given twice"),
    ],
)
def test_the_groups_of_a_space_are_of_the_right_type(
    tmp_path: Path, text: str, reason: str
) -> None:
    grid = "search: {network.filters: {grid: [32, 5]}}\n" if "series" in text else ""
    path = tmp_path / "f.yaml"
    path.write_text(f"task: clustering\n{BUDGETS}{text}{grid}")
    with pytest.raises(ValueError, match=reason) as caught:
        read_space(path, "smoke")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("budgets", "reason"),
    [
        ("[smoke]", ":2: budgets: .*: write a mapping"),
        ("{smoke: null}", ":2: budgets.smoke: must be a mapping with trials"),
        ("{smoke: x}", ":2: budgets.smoke: must be a mapping with trials"),
        ("{smoke: {trials: 1, steps: 1, min_steps: 1, fixed: [a]}}", ":2: budgets.smoke.fixed"),
    ],
)
def test_budgets_are_mappings(tmp_path: Path, budgets: str, reason: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"task: clustering\nbudgets: {budgets}\n")
    with pytest.raises(ValueError, match=reason):
        read_space(path, "smoke")


@pytest.mark.parametrize("value", ["[", "@x", '"', "1\n---\n2", "!!binary aGk=", "&a [*a]", ".nan"])
def test_a_malformed_setting_is_named(value: str) -> None:
    with pytest.raises(ValueError, match=r"^--set optimizer\.steps: ") as caught:
        parse_setting(f"optimizer.steps={value}")
    assert "\n" not in str(caught.value)
