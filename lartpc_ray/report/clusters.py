"""The sections about clusters: scores against their number and their size."""

from __future__ import annotations

from lartpc_ray.report import charts
from lartpc_ray.report.document import Grid, Page, Plot
from lartpc_ray.report.gallery import EventScan


def write(page: Page, scan: EventScan, count: int, metric: str, name: str) -> None:
    """Write Figs. 6, 7 and 8 of Koh et al. 2020; nothing without clusters.

    Args:
        page: to write to.
        scan: of test events.
        count: of these events.
        metric: the score of an event.
        name: of the metric, for the reader.
    """
    if not scan.true:
        return
    predicted = scan.values["n_clusters"]
    score = charts.by_clusters(scan.true, scan.values[metric], f"mean {name}", diagonal=False)
    number = charts.by_clusters(scan.true, predicted, "predicted clusters", diagonal=True)
    text = (
        f"As in Fig. 8 of Koh et al. 2020, from {count} test events: the score of a class, "
        "and how many clusters are found, by how many there are. Bars are standard errors; a point "
        "without one is a single event, or its events agree."
    )
    by_clusters = [Plot(score, f"{name} by clusters"), Plot(number, "Clusters found")]
    page.add("Many clusters", text, Grid(by_clusters))
    counted = [
        Plot(charts.counted(true, predicted[name]), f"Clusters of {name}", name)
        for name, true in scan.true.items()
    ]
    text = (
        "As in their Fig. 7: the events by their true and predicted clusters of each class. The "
        "colour is the share among events with as many true ones. True clusters too small to be "
        "scored are not counted, nor are predicted ones that hold voxels of such clusters only."
    )
    page.add("Clusters counted", text, Grid(counted))
    text = (
        "As in their Fig. 6: the margin, averaged over each true cluster, against its extent, the "
        "largest distance of two voxels along an axis. Both in the units of the embedding, where "
        "the image spans -1 to 1. Where the margin follows the extent, a cluster may stay as it "
        "lies in the image; where it does not, the network must pull its voxels together. Clusters "
        "of one voxel have no extent and are not drawn."
    )
    page.add("Margin and extent", text, Plot(charts.margins(scan.sizes), "Margins"))
