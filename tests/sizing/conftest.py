"""A fleet of the kinds that clusters have."""

from __future__ import annotations

import pytest

from drse_operator.api.enums import Vendor
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind


def _kind(vendor: Vendor, product: str, mebibytes: int, per_node: int, total: int) -> AcceleratorKind:
    facts = accelerators.lookup(product)
    assert facts is not None
    return AcceleratorKind(vendor, product, mebibytes * 2**20, facts.tflops, per_node, total)


@pytest.fixture(scope="session")
def fleet() -> tuple[AcceleratorKind, ...]:
    return (
        _kind(Vendor.NVIDIA, "NVIDIA H200", 143_771, 8, 32),
        _kind(Vendor.NVIDIA, "NVIDIA H100 80GB HBM3", 81_559, 8, 32),
        _kind(Vendor.NVIDIA, "NVIDIA A100-SXM4-80GB", 81_920, 8, 16),
        _kind(Vendor.NVIDIA, "NVIDIA L40S", 46_068, 4, 8),
        _kind(Vendor.AMD, "AMD_Instinct_MI300X_OAM", 196_592, 8, 8),
        _kind(Vendor.HABANA, "Gaudi3", 131_072, 8, 8),
    )
