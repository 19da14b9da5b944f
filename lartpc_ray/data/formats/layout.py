"""How a file of events is to be read: the image, the products, what its class codes mean."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from lartpc_ray.settings import Settings

Code = Literal["HIP", "MIP", "SHOWER", "DELTA", "MICHEL", "drop", "unlabelled"]


class ClassMap(Settings):
    """What a file's semantic codes mean.

    `drop` removes the voxels, `unlabelled` keeps them in the image with no class and no cluster.
    """

    shower: Code = Field(default="SHOWER", description="code 0")
    track: Code = Field(default="MIP", description="code 1: tracks with pid below 4")
    proton_track: Code = Field(
        default="HIP", description="code 1, too: tracks with pid 4 or above (nuclei)"
    )
    michel: Code = Field(default="MICHEL", description="code 2")
    delta: Code = Field(default="DELTA", description="code 3")
    low_energy: Code = Field(default="drop", description="code 4: LED, the low-energy deposits")

    def table(self) -> tuple[Code, ...]:
        """The class of each code of the file: 0 to 4, then 5 for the proton tracks."""
        return (
            self.shower,
            self.track,
            self.michel,
            self.delta,
            self.low_energy,
            self.proton_track,
        )


class Products(Settings):
    """Which products of a LArCV file make an event; a name not given is that of the only one.

    Names are the producers': `pcluster` of `sparse3d_pcluster`. A file without a product of the
    classes, the clusters or the particles gives events without that truth.
    """

    energy: str | None = Field(default=None, description="sparse3d of the energies")
    classes: str | None = Field(
        default=None,
        description="sparse3d of the class codes; by default *fivetypes, else *semantics",
    )
    codes: tuple[Code, ...] | None = Field(
        default=None,
        description="what the codes 0, 1, ... mean; by default HIP MIP SHOWER DELTA MICHEL LED in "
        "*fivetypes, as in PILArNet-M elsewhere; LED as the class map says",
    )
    cluster: str | None = Field(default=None, description="cluster3d, a set of voxels a particle")
    particle: str | None = Field(default=None, description="groups and types of the clusters")
    projection: NonNegativeInt | None = Field(
        default=None, description="read the 2D images of this projection: sparse2d, cluster2d"
    )


class Layout(Settings):
    """How a file is to be read."""

    side: PositiveInt = Field(
        default=512,
        description="voxels along each axis of the image; a LArCV file says so itself",
    )
    classes: ClassMap = ClassMap()
    duplicates: Literal["error", "merge"] = Field(
        default="error",
        description="merge: energies of a voxel listed twice are added, the larger's truth kept",
    )
    larcv: Products = Products()
