"""The fleet file: which nodes and GPUs the embedded cluster pretends to have.

A fleet is a list of groups of equal nodes. Everything derived from it is deterministic (node names from the
group's name, GPU UUIDs from node name and index), so the cluster, the metrics source and the recorded history
agree without talking to each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from drse_local.errors import LocalClusterError
from drse_local.gpus import ProductFacts, lookup_product

_UUID_NAMESPACE = uuid.UUID("4c0a6f0e-6c37-5b0c-9d5e-1d5a7f0f7a11")


class Vendor(StrEnum):
    """Who made the accelerator; decides resource names, labels and metric names."""

    NVIDIA = "nvidia"
    AMD = "amd"
    HABANA = "habana"


class Binding(StrEnum):
    """How devices are given to pods: dynamic resource allocation, or a device plugin's extended resource."""

    DRA = "dra"
    DEVICE_PLUGIN = "devicePlugin"


EXTENDED_RESOURCE = {
    Vendor.NVIDIA: "nvidia.com/gpu",
    Vendor.AMD: "amd.com/gpu",
    Vendor.HABANA: "habana.ai/gaudi",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class NodeGroup(_Model):
    """Nodes that are equal but for their names.

    nodes: how many. gpus: whole GPUs each; 0 makes CPU-only nodes, which need no product.
    product: as the driver spells it, e.g. `NVIDIA H100 80GB HBM3` (node labels spell it without spaces).
    memory: MiB a GPU reports; the product's own where it is known.
    nvlink_domain: a domain that spans the group's nodes (rack-scale NVLink), published as
    `nvidia.com/gpu.clique`.
    nodes_per_rack: racks are named `<rack>`, or `<rack>-0`, `<rack>-1`, ... when the group fills several.
    cpus, host_memory: cores and GiB of each node.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
    nodes: Annotated[int, Field(ge=1, le=5000)]
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    product: str | None = None
    memory: Annotated[int, Field(gt=0)] | None = None
    vendor: Vendor = Vendor.NVIDIA
    binding: Binding = Binding.DRA
    nvlink_domain: str | None = None
    rack: str = "rack-0"
    nodes_per_rack: Annotated[int, Field(ge=1)] | None = None
    zone: str = "zone-a"
    labels: dict[str, str] = Field(default_factory=dict)
    cpus: Annotated[int, Field(ge=1)] = 128
    host_memory: Annotated[int, Field(ge=1)] = 2048

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gpus and not self.product:
            raise ValueError(
                f"group {self.name} has GPUs but no product; name one, e.g. NVIDIA H100 80GB HBM3"
            )
        if self.gpus and self.memory is None and lookup_product(self.product or "") is None:
            raise ValueError(f"group {self.name}: memory of {self.product} is not known; state it in MiB")
        if self.binding is Binding.DRA and self.vendor is not Vendor.NVIDIA and self.gpus:
            raise ValueError(f"group {self.name}: only nvidia groups can use dra; use binding: devicePlugin")
        return self

    @property
    def facts(self) -> ProductFacts:
        """What is known of the product; the group's own memory wins."""
        known = lookup_product(self.product or "")
        if known is None:
            return ProductFacts(architecture="Unknown", memory_mib=self.memory or 0)
        return known if self.memory is None else known.with_memory(self.memory)

    def rack_of(self, index: int) -> str:
        """Rack of the group's node with this index."""
        if self.nodes_per_rack is None:
            return self.rack
        return f"{self.rack}-{index // self.nodes_per_rack}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. `device` is its name in ResourceSlices and claims; memory is what the driver reports, in
    MiB.
    """

    uuid: str
    index: int
    device: str
    node: str
    product: str
    vendor: Vendor
    binding: Binding
    memory_mib: int


@dataclass(frozen=True, slots=True)
class FleetNode:
    """One node and its GPUs."""

    name: str
    group: NodeGroup
    rack: str
    gpus: tuple[Gpu, ...]


class Fleet(_Model):
    """The whole fleet file."""

    groups: Annotated[tuple[NodeGroup, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [group.name for group in self.groups]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two groups are called {twice[0]}; give each group a name of its own")
        return self

    @cached_property
    def nodes(self) -> tuple[FleetNode, ...]:
        """Every node, in the file's order."""
        return tuple(node for group in self.groups for node in _nodes_of(group))

    @cached_property
    def gpus(self) -> tuple[Gpu, ...]:
        """Every GPU, in the file's order."""
        return tuple(gpu for node in self.nodes for gpu in node.gpus)


def _nodes_of(group: NodeGroup) -> Iterator[FleetNode]:
    for index in range(group.nodes):
        name = f"{group.name}-{index}"
        gpus = tuple(_gpu(group, name, position) for position in range(group.gpus))
        yield FleetNode(name, group, group.rack_of(index), gpus)


def _gpu(group: NodeGroup, node: str, index: int) -> Gpu:
    return Gpu(
        uuid=device_uuid(group.vendor, node, index),
        index=index,
        device=f"gpu-{index}",
        node=node,
        product=group.product or "",
        vendor=group.vendor,
        binding=group.binding,
        memory_mib=group.facts.memory_mib,
    )


def device_uuid(vendor: Vendor, node: str, index: int) -> str:
    """The UUID of a device: the same in every run. NVIDIA's begin with `GPU-`."""
    identity = str(uuid.uuid5(_UUID_NAMESPACE, f"{node}/{index}"))
    return f"GPU-{identity}" if vendor is Vendor.NVIDIA else identity


def load_fleet(source: str | Path) -> Fleet:
    """Read a fleet file, or one that ships with DRSE by its bare name (`default`, `small`)."""
    path = _resolve(source)
    try:
        return Fleet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise LocalClusterError(f"The fleet file {path} is not valid: {error}") from error


def _resolve(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("drse_local"))) / "fleets" / f"{source}.yaml"
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(each.stem for each in shipped.parent.glob("*.yaml")))
    raise LocalClusterError(f"There is no fleet file {source}; give a path, or one of: {names}.")
