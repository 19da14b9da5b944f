"""A page that opens anywhere: sections of text, tables, plots and events, as one file.

The Jinja2 template dashboards/page.html escapes all texts. The page holds plotly.js and all data.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jinja2
import numpy as np
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from lartpc_ray.atomic import write_text
from lartpc_ray.data.views import GREY, Panel, View
from lartpc_ray.report.charts import Chart
from lartpc_ray.trials.shipped import shipped


class Row(NamedTuple):
    """A row of a table; `style` is its class in the style sheet."""

    style: str
    label: str
    cells: Sequence[str]


@dataclass(frozen=True, eq=False)
class Table:
    """A table with a title above its labels; `aligned` tables have columns of one width."""

    kind: ClassVar = "table"
    title: str
    heads: Sequence[str]
    rows: Sequence[Row]
    aligned: bool = False


@dataclass(frozen=True, eq=False)
class Plot:
    """A chart, its label for screen readers, its title and its least width [pixels]."""

    kind: ClassVar = "plot"
    chart: Chart
    label: str
    title: str = ""
    width: int = 0


@dataclass(frozen=True, eq=False)
class EventFigure:
    """A caption above the drawings of an event, which stand side by side."""

    kind: ClassVar = "event"
    panels: Sequence[Panel]
    caption: str


@dataclass(frozen=True, eq=False)
class Text:
    """A text of the kind `heading`, `sentence`, `note` (small print) or `verbatim`."""

    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Grid:
    """Plots side by side, as many as the screen has room for; `narrow` ones take less."""

    kind: ClassVar = "grid"
    blocks: Sequence[Plot]
    narrow: bool = False


Block = Table | Plot | EventFigure | Text | Grid


class Section(NamedTuple):
    """A section of the page."""

    title: str
    text: str
    blocks: Sequence[Block]


@dataclass
class Page:
    """The sections of a page."""

    sections: list[Section] = field(default_factory=list)

    def add(self, title: str, text: str, *blocks: Block) -> None:
        """Add a section."""
        self.sections.append(Section(title, text, blocks))

    def write(
        self, path: Path, title: str, facts: Mapping[str, str], shown: Collection[str] = ()
    ) -> None:
        """Write the page whole or not at all.

        Args:
            path: the file.
            title: of the page.
            facts: name to text, below the title.
            shown: titles of the sections that are open; without them all are.
        """
        content = {"title": title, "facts": facts, "sections": self.sections}
        content["open"] = shown or [section.title for section in self.sections]
        write_text(path, _template().render(content, plotly=_packed(get_plotlyjs())))


def _packed(code: str) -> str:
    """Return code as base64 of its gzip, a third as long; the page unpacks it."""
    return base64.b64encode(gzip.compress(code.encode(), mtime=0)).decode()


def _template() -> jinja2.Template:
    """Read the template; arrays become lists in JSON, and NaN becomes null."""
    loader = jinja2.FileSystemLoader(shipped("dashboards"))
    page = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    page.filters |= {"legend": _legend, "scene": _scene, "parts": _parts}
    page.policies |= {"json.dumps_function": to_json_plotly, "json.dumps_kwargs": {}}
    return page.get_template("page.html")


def _parts(text: str) -> list[str]:
    """Split a text at its backticks: each second part is code.

    Example:
        >>> _parts("more `steps` of it")
        ['more ', 'steps', ' of it']
    """
    return re.split(r"`([^`]+)`", text)


def _legend(view: View) -> list[tuple[str, str]]:
    """Return the colours in use, and their names."""
    used = set(np.unique(view.value).tolist())
    pairs = enumerate(zip(view.colours, view.names, strict=False))
    return [pair for index, pair in pairs if index in used]


def _scene(panel: Panel) -> dict[str, Any]:
    """Scale coordinates to 10,000 along the longest side, little-endian; a colour per voxel."""
    coords = panel.coords.astype(float)
    low, high = (coords.min(axis=0), coords.max(axis=0)) if len(coords) else (np.zeros(3),) * 2
    extent = np.maximum(high - low, 1e-9)
    scaled = (coords - low) / extent.max() * 10_000
    return {
        "axes": coords.shape[1],
        "coords": _base64(scaled.astype("<i2")),
        "colour": _base64(panel.view.value.astype("<i1")),
        "colours": panel.view.colours,
        "grey": GREY,
        "sides": list(extent / extent.max()),
        "names": [f"{side + 1:.0f} voxels" if panel.image else f"{side:.2f}" for side in extent],
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
