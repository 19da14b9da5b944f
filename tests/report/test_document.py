"""The page as a document: it shows each kind of block, and no text is code."""

import json
import re
from pathlib import Path

import numpy as np

from lartpc_ray.data.views import Panel, View
from lartpc_ray.report.document import EventFigure, Grid, Page, Plot, Row, Table, Text

EVIL = "</script><script>alert('1')</script><i title=\"2\">&"


def test_no_text_of_any_block_is_code(tmp_path: Path) -> None:
    plot = {"data": [{"name": EVIL, "y": np.array([1.5, np.nan])}], "layout": {"height": 300}}
    view = View(EVIL, np.array([0, -1]), np.array([0, 1]), ("#123456",), (EVIL,))
    page = Page()
    page.add(
        EVIL,
        EVIL,
        Table(EVIL, [EVIL], [Row("this", EVIL, [EVIL])]),
        Grid([Plot(plot, EVIL, EVIL)]),
        EventFigure([Panel(view, np.array([[0, 0], [3, 1]]))], EVIL),
        *(Text(kind, EVIL) for kind in ("heading", "note", "verbatim")),
        Text("sentence", "more `steps & trials` of it"),
    )
    page.write(tmp_path / "page.html", EVIL, {EVIL: EVIL})
    text = (tmp_path / "page.html").read_text()
    numbers = '<script type="application/json">'
    own = text.partition("<script>")[0].replace(numbers, "")
    assert own.count("&lt;/script&gt;&lt;script&gt;alert(&#39;1&#39;)") == 20
    assert "<p>more <code>steps &amp; trials</code> of it</p>" in own
    assert "<script" not in own
    assert "<i title" not in own
    assert "alert('1')</script>" not in text
    chart, scene = (json.loads(found) for found in re.findall(f"{numbers}(.*?)</script>", text))
    assert chart["data"] == [{"name": EVIL, "y": [1.5, None]}]
    assert scene[0]["names"] == ["4 voxels", "2 voxels"]
