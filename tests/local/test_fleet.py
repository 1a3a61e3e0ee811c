"""The fleet file and what is derived from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drse_local.errors import LocalClusterError
from drse_local.fleet import Binding, Fleet, Vendor, load_fleet
from drse_local.nodes import node_labels, node_status, resource_slice


def fleet(**group: object) -> Fleet:
    return Fleet.model_validate({"groups": [{"name": "g", "nodes": 2, **group}]})


@pytest.mark.parametrize("name", ["default", "small"])
def test_shipped_fleets_have_every_vendor_and_both_bindings(name: str) -> None:
    gpus = load_fleet(name).gpus
    assert {gpu.vendor for gpu in gpus} == set(Vendor)
    assert {gpu.binding for gpu in gpus} == set(Binding)


@given(st.integers(1, 20), st.integers(1, 16))
def test_uuids_are_unique_and_the_same_in_every_run(nodes: int, gpus: int) -> None:
    group = {"name": "g", "nodes": nodes, "gpus": gpus, "product": "NVIDIA L40S"}
    once, again = (Fleet.model_validate({"groups": [group]}) for _ in range(2))
    uuids = [gpu.uuid for gpu in once.gpus]
    assert len(set(uuids)) == nodes * gpus
    assert uuids == [gpu.uuid for gpu in again.gpus]


def test_a_dra_node_publishes_a_slice_and_no_extended_resource() -> None:
    node = fleet(gpus=8, product="NVIDIA H100 80GB HBM3").nodes[0]
    manifest = resource_slice(node)
    assert manifest is not None
    device = manifest["spec"]["devices"][3]
    assert device["attributes"]["uuid"]["string"] == node.gpus[3].uuid
    assert device["capacity"]["memory"]["value"] == "81559Mi"
    assert not any(key.endswith("/gpu") for key in node_status(node)["status"]["allocatable"])


def test_a_device_plugin_node_publishes_a_count_and_no_slice() -> None:
    node = fleet(gpus=8, product="NVIDIA A100-SXM4-80GB", binding="devicePlugin").nodes[0]
    assert resource_slice(node) is None
    assert node_status(node)["status"]["allocatable"]["nvidia.com/gpu"] == "8"


def test_labels_follow_feature_discovery() -> None:
    group = {"gpus": 8, "product": "NVIDIA A100-SXM4-80GB", "nvlinkDomain": "nvl", "labels": {"team": "x"}}
    labels = node_labels(fleet(**group, rack="r", nodesPerRack=1).nodes[1])
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB"
    assert labels["nvidia.com/gpu.memory"] == "81920"
    assert labels["nvidia.com/gpu.clique"] == "nvl"
    assert labels["topology.kubernetes.io/rack"] == "r-1"
    assert labels["team"] == "x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("groups: []", "at least 1 item"),
        ("groups: [{name: g, nodes: 1, gpus: 8}]", "has GPUs but no product"),
        ("groups: [{name: g, nodes: 1, gpus: 8, product: X1}]", "memory of X1 is not known"),
        (
            "groups: [{name: g, nodes: 1, gpus: 1, product: HL-325, vendor: habana}]",
            "use binding: devicePlugin",
        ),
        ("groups: [{name: g, nodes: 1}, {name: g, nodes: 2}]", "two groups are called g"),
        ("groups: [{name: g, nodes: 1, colour: red}]", "Extra inputs are not permitted"),
        ("groups: [", "is not valid"),
    ],
)
def test_a_bad_fleet_file_is_refused_with_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LocalClusterError, match=message):
        load_fleet(path)


def test_an_unknown_fleet_is_answered_with_the_known_ones() -> None:
    with pytest.raises(LocalClusterError, match="default, small"):
        load_fleet("no-such-fleet")
