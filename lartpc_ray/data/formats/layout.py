"""Settings of reading a file of events: the image, the classes, the LArCV products."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from lartpc_ray.settings import Settings

Code = Literal["HIP", "MIP", "SHOWER", "DELTA", "MICHEL", "drop", "unlabelled"]


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

    def table(self) -> tuple[Code, ...]:
        """Return the class of each code of the file: 0 to 4, then 5 for the proton tracks."""
        return (
            self.shower,
            self.track,
            self.michel,
            self.delta,
            self.low_energy,
            self.proton_track,
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


class Layout(Settings):
    """Settings of reading a file of events."""

    side: PositiveInt = Field(
        default=512,
        description="voxels along each axis of the image; a LArCV file holds its own size",
    )
    classes: ClassMap = ClassMap()
    duplicates: Literal["error", "merge"] = Field(
        default="error",
        description="merge: add the energies of a voxel listed twice, keep the truth of the larger",
    )
    larcv: Products = Products()
