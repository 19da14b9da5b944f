"""Search spaces and settings made by a grammar, most of them malformed."""

from __future__ import annotations

from random import Random

from lartpc_ray.trials.paths import flatten_settings
from lartpc_ray.trials.trial import Trial

ATOMS = (
    *("1", "-1", "0", "3.5", "1e-3", "1e999", ".nan", "-.inf", "9" * 30, "010", "0x1F", "1_0"),
    *("true", "no", "null", "~", "''", '""', "'", '"', "2001-01-01", "1:30", "bce", "auto"),
    *("[", "]", "{", "}", "&a 1", "*a", "*b", "<<", "!!binary aGk=", "!!set {a}", "!x", "@x"),
    *("`", "%", "|", ">", "- a", "? a", "a: b", "#", "---", "...", "\t", "/dev/zero", "~root"),
    *("\u0662", "é", "\u200b", "\x07", "\ud7ff", "😀", "x" * 300, "[" * 50, "{a: " * 50),
    *("network.depth", "clustering", '"\\ud800"', '"\\0"'),
)
KEYS = ("task", "about", "fixed", "search", "first", "series", "costs", "budgets", "serach", "1")
KINDS = ("choice", "uniform", "log", "int", "grid", "integer", "null", "[a]")
OPTIONS = ("prior", "when", "step", "log", "pior", "value", "width", "null")
VALID = {
    "network.depth": "int: [2, 8]",
    "network.filters": "int: [4, 32]",
    "network.blocks": "choice: [1, 2, 3]",
    "optimizer.learning_rate": "log: [1e-4, 1e-2]",
    "optimizer.clip": "uniform: [0.0, 2.0]",
    "task.loss.mask": "choice: [bce, focal, lovasz_hinge]",
    "data.splits.train_events": "choice: [null, 4, 8]",
    "data.augment": "choice: [true, false]",
}
"""Searched settings that are valid until an option is added."""
PATHS = (
    *flatten_settings(Trial()),
    *("network", "task", "", ".", "network.", "network..depth", "network.__class__", "task.cut"),
)
BUDGET = "{trials: 2, steps: 4, min_steps: 2}"


class Grammar(Random):
    """A source of YAML text; the same seed gives the same text."""

    def atom(self) -> str:
        return self.choice(ATOMS)

    def value(self, depth: int = 0) -> str:
        """Write a scalar, a list or a mapping, now and then with an anchor."""
        kind = self.random()
        if kind < 0.6 or depth > 3:
            return self.atom()
        anchor = self.choice(["", "", "", "&a ", "&b "])
        if kind < 0.8:
            return f"{anchor}[{', '.join(self.value(depth + 1) for _ in range(self.randrange(4)))}]"
        pairs = (f"{self.key()}: {self.value(depth + 1)}" for _ in range(self.randrange(4)))
        return f"{anchor}{{{', '.join(pairs)}}}"

    def key(self) -> str:
        return self.choice(PATHS) if self.random() < 0.8 else self.atom()

    def entry(self) -> str:
        """Write the entry of a searched setting."""
        if self.random() < 0.2:
            return self.value()
        values = ", ".join(self.value(2) for _ in range(self.randrange(1, 4)))
        values = self.choice([values, "1, 8", "1, 8", "0.5, 2.0", "null, 2, 8", "bce, focal"])
        pairs = [f"{self.choice(KINDS)}: [{values}]"]
        pairs += [f"{name}: {self.option(name)}" for name in self.choices(OPTIONS, k=self.few())]
        self.shuffle(pairs)
        return f"{{{', '.join(pairs)}}}"

    def few(self) -> int:
        return self.choice([0, 0, 1, 1, 2, 3])

    def option(self, name: str) -> str:
        """Write the value of a key beside the values of an entry."""
        if self.random() < 0.2:
            return self.value()
        if name == "prior":
            number = self.choice(["1", "2", "4", "1e300", "0", "9" * 18, "true", self.atom()])
            width = self.choice(["1", "2", "1e300", "-1", "1e-300", self.atom()])
            pair = f"[{number}, {self.choice(['1', '4', '8', self.atom()])}]"
            return self.choice(
                [pair, f"{{value: {number}, width: {width}}}", f"{{value: {number}}}"]
            )
        if name == "when":
            return f"{{{self.key()}: {self.choice(['1', '[1, 8]', '[bce]', self.value(2)])}}}"
        return self.choice(["1", "2", "7", "0.5", "1e-300", "1e300", "true", self.atom()])

    def group(self, name: str) -> str:
        """Write the value of a group of a search space."""
        if self.random() < 0.15:
            return self.value()
        count = range(self.randrange(4))
        if name == "task":
            return self.choice(["clustering", "segmentation", "infill", "michel", self.atom()])
        if name == "budgets":
            fixed = f"{{{self.key()}: {self.value()}}}"
            odd = f"{{trials: {self.value()}, steps: 4, min_steps: 2, fixed: {fixed}}}"
            return f"{{smoke: {self.choice([BUDGET, BUDGET, odd, self.value()])}}}"
        if name == "first" and self.random() < 0.4:
            starts = (f"{{{self.key()}: {self.value()}}}" for _ in range(self.randrange(4)))
            return f"[{', '.join([*starts, self.choice(['{}', self.atom()])])}]"
        if name in ("series", "costs"):
            return f"[{', '.join(self.value(2) for _ in count)}]"
        write = self.entry if name == "search" else self.value
        return f"{{{', '.join(f'{self.key()}: {write()}' for _ in count)}}}"

    def nearly_valid(self) -> str:
        """Write a search space whose only mistakes are in the options of its entries."""
        entries = []
        for path in self.sample(list(VALID), k=self.randrange(1, 5)):
            pairs = [VALID[path]]
            for name in self.sample(("prior", "when", "step", "log"), k=self.choice([0, 1, 1, 2])):
                other = self.choice(list(VALID))
                values = self.choice(["[1, 2]", "[bce]", "true", "4", "[null, 8]", self.atom()])
                pairs.append(
                    f"when: {{{other}: {values}}}"
                    if name == "when"
                    else f"{name}: {self.option(name)}"
                )
            self.shuffle(pairs)
            entries.append(f"{path}: {{{', '.join(pairs)}}}")
        starts = "[{network.depth: 7, network.filters: 32}, {network.depth: 3}]"
        first = self.choice(["", f"first: {starts}\n", f"first: {self.group('first')}\n"])
        return f"search: {{{', '.join(entries)}}}\n{first}budgets: {{smoke: {BUDGET}}}\n"

    def space(self) -> bytes:
        """Write a search space: groups in any order, one time in three with damaged text."""
        if self.random() < 0.4:
            return self.nearly_valid().encode("utf-8", "replace")
        names = ["task", "budgets", *self.choices(KEYS, k=self.randrange(5))]
        text = "".join(f"{name}: {self.group(name)}\n" for name in names)
        if self.random() < 0.33:
            text = self.damaged(text)
        encoding = self.choice(["utf-8"] * 12 + ["utf-16", "latin-1", "utf-8-sig"])
        return text.encode(encoding, "replace")

    def damaged(self, text: str) -> str:
        """Put strange text into a text, or cut a piece out of it, a few times."""
        for _ in range(self.randrange(1, 4)):
            start = self.randrange(len(text) + 1)
            end = start + self.choice([0, 0, 1, 5])
            text = text[:start] + self.choice([*ATOMS, "\n", "  ", "", ": ", ","]) + text[end:]
        return text

    def setting(self) -> str:
        """Write an argument of `--set`."""
        text = f"{self.key()}={self.value()}"
        return self.damaged(text) if self.random() < 0.33 else text
