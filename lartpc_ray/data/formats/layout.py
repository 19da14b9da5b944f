"""Settings of reading a file of events: the image, the classes, what each format needs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from lartpc_ray.data.limits import MAX_SIDE
from lartpc_ray.settings import Settings

Code = Literal["HIP", "MIP", "SHOWER", "DELTA", "MICHEL", "drop", "unlabelled"]


def _kept(code: Code) -> Code:
    return "unlabelled" if code == "drop" else code


class ClassMap(Settings):
    """The class of each semantic code of a file.

    `drop` removes the voxels; `unlabelled` keeps them without class and cluster.
    """

    shower: Code = Field(default="SHOWER", description="code 0")
    track: Code = Field(default="MIP", description="code 1, tracks with pid below 4")
    proton_track: Code = Field(
        default="HIP", description="code 1, tracks with pid 4 or above (protons, nuclei)"
    )
    michel: Code = Field(default="MICHEL", description="code 2")
    delta: Code = Field(default="DELTA", description="code 3")
    low_energy: Code = Field(default="drop", description="code 4, low-energy deposits")
    further: tuple[Code, ...] = Field(
        default=(),
        description="codes 5, 6, ... (for example ghost, unknown); by default they are an error",
    )

    def table(self) -> tuple[Code, ...]:
        """Return the class of each code of the file, 0, 1, ..., then of the proton tracks."""
        low = (self.shower, self.track, self.michel, self.delta, self.low_energy)
        return (*low, *self.further, self.proton_track)

    def without_drops(self) -> ClassMap:
        """Return the classes with `unlabelled` in place of each `drop`."""
        return ClassMap.model_validate(
            {name: _kept(value) for name, value in self if name != "further"}
            | {"further": tuple(map(_kept, self.further))}
        )


class Products(Settings):
    """The products of a LArCV file that make an event; by default the only product of each kind.

    A product is named by its producer: `pcluster` for `sparse3d_pcluster`. A file without classes,
    clusters or particles gives events without this truth.
    """

    energy: str | None = Field(default=None, description="sparse3d product of the energies")
    classes: str | None = Field(
        default=None,
        description="sparse3d product of the codes; by default *fivetypes, else *semantics",
    )
    codes: tuple[Code, ...] | None = Field(
        default=None,
        description="classes of the codes 0, 1, ...; by default HIP MIP SHOWER DELTA MICHEL and "
        "low_energy in *fivetypes, the codes of PILArNet-M elsewhere",
    )
    cluster: str | None = Field(default=None, description="cluster3d, a set of voxels per particle")
    particle: str | None = Field(default=None, description="types and groups of the clusters")
    projection: NonNegativeInt | None = Field(
        default=None, description="read the 2D images of this projection (sparse2d, cluster2d)"
    )


class Segments(Settings):
    """How the segments of edep-sim and larnd-sim become voxels."""

    pitch: PositiveFloat = Field(default=0.3, description="side of a voxel, cm")
    origin: tuple[float, float, float] | None = Field(
        default=None,
        description="lowest corner of the image, cm; by default that of the file's segments",
    )
    event: str | None = Field(
        default=None,
        description="field with the number of the event; by default event_id, spillID or eventID",
    )


class Hits(Settings):
    """How hits on wires become 2D images."""

    plane: NonNegativeInt | None = Field(
        default=None, description="wire plane to read, of hits or of a table of wires and ticks"
    )
    ticks: PositiveFloat = Field(
        default=5.0, description="ticks of a pixel of MicroBooNE's hits; a wire pitch is 5.5 ticks"
    )
    categories: tuple[Code, ...] = Field(
        default=(
            *("MIP", "MIP", "MIP", "HIP", "SHOWER"),
            *("MICHEL", "DELTA", "unlabelled", "SHOWER"),
        ),
        description="classes of MicroBooNE's categories pion, muon, kaon, proton, electron, "
        "michel, delta, other, photon",
    )


class Layout(Settings):
    """Settings of reading a file of events."""

    side: PositiveInt = Field(
        default=512,
        le=MAX_SIDE,
        description="voxels along each axis of the image; a LArCV file holds its own size",
    )
    classes: ClassMap = ClassMap()
    duplicates: Literal["error", "merge"] = Field(
        default="error",
        description="merge: add the energies of a voxel listed twice, keep the truth of the larger",
    )
    larcv: Products = Products()
    segments: Segments = Segments()
    hits: Hits = Hits()

    def without_drops(self) -> Layout:
        """Return a layout that keeps all voxels, those of dropped codes without a class."""
        codes, categories = self.larcv.codes, tuple(map(_kept, self.hits.categories))
        larcv = self.larcv.model_copy(update={"codes": codes and tuple(map(_kept, codes))})
        hits = self.hits.model_copy(update={"categories": categories})
        classes = self.classes.without_drops()
        return self.model_copy(update={"classes": classes, "larcv": larcv, "hits": hits})
