"""A page that opens anywhere: sections of text, tables, charts and events, as one file.

The file is dashboards/page.html with plotly.js and the numbers in it. All text is escaped here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from lartpc_ray.atomic import write_text
from lartpc_ray.data.draw import GREY, View
from lartpc_ray.report.charts import Chart
from lartpc_ray.trials.space import shipped

Row = tuple[str, str, list[str]]
"""Class in the style sheet, label, cells."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One drawing of an event.

    Attributes:
        view: what the colours mean.
        coords: (voxel, axis) where the voxels are drawn.
        image: whether these are places in the image, and not of an embedding.
    """

    view: View
    coords: np.ndarray
    image: bool = True


@dataclass
class Page:
    """A page in the making."""

    _sections: list[tuple[str, str]] = field(default_factory=list)
    _charts: list[Chart] = field(default_factory=list)
    _events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, title: str, text: str, *body: str) -> None:
        """A section; `text` is plain, `body` is HTML."""
        self._sections.append((title, f"<p>{escape(text)}</p>{''.join(body)}"))

    def chart(self, chart: Chart, label: str, title: str = "", wide: int = 0) -> str:
        """A place for a chart; `wide` is the width in pixels that it needs to be read."""
        self._charts.append(chart)
        place, height = len(self._charts) - 1, chart["layout"]["height"]
        head = f"<h3>{escape(title)}</h3>" if title else ""
        style = f"height:{height}px" + f";min-width:{wide}px" * bool(wide)
        return (
            f'<figure>{head}<div class="scroll"><div class="plot" role="img" data-chart="{place}" '
            f'aria-label="{escape(label)}" style="{style}"></div></div></figure>'
        )

    def event(self, panels: Sequence[Panel], caption: str) -> str:
        """A place for the drawings of an event, side by side."""
        self._events.append({"panels": [_numbers(panel) for panel in panels]})
        canvases = "".join(
            f'<div><canvas tabindex="0" role="img" aria-label="{escape(panel.view.title)}">'
            f"</canvas><small>{escape(panel.view.title)}{_legend(panel.view)}</small></div>"
            for panel in panels
        )
        return (
            f'<figure class="event" data-scene="{len(self._events) - 1}">'
            f"<figcaption>{escape(caption)}</figcaption>"
            f'<div class="panels">{canvases}</div></figure>'
        )

    def write(self, path: Path, title: str, facts: Mapping[str, str]) -> None:
        """Write the page whole or not at all; `facts` stand below its title."""
        content = Template((shipped("dashboards") / "page.html").read_text()).substitute(
            title=escape(title),
            facts="".join(
                f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>"
                for name, fact in facts.items()
            ),
            links="".join(
                f'<a href="#s{n}">{escape(head)}</a>' for n, (head, _) in enumerate(self._sections)
            ),
            body="".join(
                f'<section id="s{n}"><h2>{escape(head)}</h2>{body}</section>'
                for n, (head, body) in enumerate(self._sections)
            ),
            data=_json({"charts": self._charts, "scenes": self._events}),
            plotly=get_plotlyjs(),
        )
        write_text(path, content)


def table(title: str, heads: Sequence[str], rows: Iterable[Row]) -> str:
    """A table; all of its texts are escaped."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    lines = "".join(
        f'<tr class="{kind}"><th>{escape(label)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in cells)
        + "</tr>"
        for kind, label, cells in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>{escape(title)}</th>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def note(text: str) -> str:
    """Small print."""
    return f'<p class="note">{escape(text)}</p>'


def verbatim(lines: Sequence[str]) -> str:
    """Lines as they stand in a terminal; nothing for none."""
    text = escape("\n".join(lines))
    return f'<div class="scroll"><pre>{text}</pre></div>' if lines else ""


def _json(value: Any) -> str:
    """JSON that may stand in a page; arrays as lists, NaN as null."""

    def plain(one: Any) -> Any:
        if isinstance(one, dict):
            return {str(key): plain(inner) for key, inner in one.items()}
        if isinstance(one, list | tuple):
            return [plain(inner) for inner in one]
        if isinstance(one, np.ndarray):
            return plain(one.tolist())
        if isinstance(one, np.generic):
            return plain(one.item())
        if isinstance(one, float):
            return float(f"{one:.6g}") if np.isfinite(one) else None
        return one

    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _legend(view: View) -> str:
    pairs = zip(view.names, view.colours, strict=False)
    there = set(np.unique(view.value).tolist())
    return "".join(
        f' <i style="background:{colour}"></i>{escape(name)}'
        for place, (name, colour) in enumerate(pairs)
        if place in there
    )


def _numbers(panel: Panel) -> dict[str, Any]:
    """Coordinates from 0 to 10,000 along the longest side, little-endian; a colour a voxel."""
    coords = panel.coords.astype(float)
    low, high = (coords.min(axis=0), coords.max(axis=0)) if len(coords) else (np.zeros(3),) * 2
    extent = np.maximum(high - low, 1e-9)
    scaled = (coords - low) / extent.max() * 10_000
    return {
        "axes": coords.shape[1],
        "coords": _packed(scaled.astype("<i2")),
        "colour": _packed(panel.view.value.astype("<i1")),
        "colours": list(panel.view.colours),
        "grey": GREY,
        "sides": (extent / extent.max()).tolist(),
        "names": [f"{side + 1:.0f} voxels" if panel.image else f"{side:.2f}" for side in extent],
    }


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
