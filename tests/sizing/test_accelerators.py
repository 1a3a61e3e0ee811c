"""Products, words and sizes: what a user's name for a card means on the names that nodes publish."""

from __future__ import annotations

import pytest

from drse_operator.api.deepseekjob import Accelerator
from drse_operator.api.enums import Vendor
from drse_operator.sizing import accelerators
from drse_operator.sizing.shapes import AcceleratorKind

MIB, GIB = 2**20, 2**30


def kind(vendor: str, product: str, mebibytes: int = 0) -> AcceleratorKind:
    return AcceleratorKind(Vendor(vendor), product, mebibytes * MIB, tflops=1, max_per_node=8, total=8)


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA-H100-80GB-HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA H20-3e", "H20-3e"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM 40 GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40 GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GB200", "GB200"),
        ("Tesla V100-SXM2-32GB", "V100 SXM 32 GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("Gaudi3", "Gaudi 3"),
        ("Intel Gaudi 3", "Gaudi 3"),
        ("HL-325L", "Gaudi 3"),
        ("HL-325", "Gaudi 3"),
    ],
)
def test_published_names_are_found_in_the_table(published: str, name: str) -> None:
    facts = accelerators.lookup(published)
    assert facts is not None
    assert facts.name == name


@pytest.mark.parametrize("published", ["", "unknown", "NVIDIA H2000", "GRID V100D-8Q", "MI3"])
def test_other_names_are_not(published: str) -> None:
    assert accelerators.lookup(published) is None


@pytest.mark.parametrize(
    ("vendor", "asked", "published", "mebibytes"),
    [
        ("nvidia", None, "NVIDIA H200", 143771),
        ("nvidia", "H100", "NVIDIA H100 80GB HBM3", 81559),
        ("nvidia", "h100 80gb", "NVIDIA H100 PCIe", 81559),
        ("nvidia", "H100 80 GB", "NVIDIA H100 PCIe", 81559),
        ("nvidia", "NVIDIA H100 SXM", "NVIDIA H100 80GB HBM3", 81559),
        ("nvidia", "A100-80GB", "NVIDIA A100-SXM4-80GB", 81920),
        ("nvidia", "H200 141GB", "NVIDIA H200", 143771),
        ("amd", "AMD Instinct MI300X", "AMD_Instinct_MI300X_OAM", 196592),
        ("habana", "Gaudi 3", "Gaudi3", 131072),
        ("habana", "gaudi3", "HL-325L", 131072),
        ("habana", "Gaudi 3", "HL-325", 0),
    ],
)
def test_words_of_the_user_match(vendor: str, asked: str | None, published: str, mebibytes: int) -> None:
    accelerator = Accelerator(vendor=Vendor(vendor), product=asked)
    assert accelerators.matches(accelerator, kind(vendor, published, mebibytes))


@pytest.mark.parametrize(
    ("vendor", "asked", "published", "mebibytes"),
    [
        ("nvidia", "H20", "NVIDIA H200", 143771),
        ("nvidia", "L4", "NVIDIA L40S", 46068),
        ("nvidia", "A100 80GB", "NVIDIA A100-SXM4-40GB", 40960),
        ("nvidia", "H100 PCIe", "NVIDIA H100 80GB HBM3", 81559),
        ("nvidia", "H100 H200", "NVIDIA H100 80GB HBM3", 81559),
    ],
)
def test_words_of_other_products_do_not(vendor: str, asked: str, published: str, mebibytes: int) -> None:
    accelerator = Accelerator(vendor=Vendor(vendor), product=asked)
    assert not accelerators.matches(accelerator, kind(vendor, published, mebibytes))


def test_another_vendor_never_matches() -> None:
    assert not accelerators.matches(Accelerator(vendor=Vendor.AMD), kind("nvidia", "NVIDIA H200", 143771))


@pytest.mark.parametrize(
    ("product", "mebibytes", "gigabytes"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, 80),
        ("NVIDIA A100-SXM4-80GB", 81251, 80),
        ("NVIDIA L40S", 46068, 48),
        ("NVIDIA H200", 143771, 141),
        ("Tesla T4", 15360, 16),
        ("a card of next year", 81000, 80),
        ("AMD_Instinct_MI300X_OAM", 196592, 192),
        ("NVIDIA H200", 0, 141),
    ],
)
def test_memory_counts_as_it_is_sold(product: str, mebibytes: int, gigabytes: int) -> None:
    assert accelerators.marketed_memory(kind("nvidia", product, mebibytes)) == gigabytes * GIB


def test_a_slice_of_a_card_is_not_taken_for_the_card() -> None:
    mig = kind("nvidia", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40192)
    assert accelerators.marketed_memory(mig) == 40 * GIB


def test_every_row_finds_itself_and_states_a_source() -> None:
    for row in accelerators.TABLE:
        found = accelerators.lookup(" ".join(row.words))
        assert found is not None
        assert found.name == row.name
        assert row.source
        assert row.tflops > 0


@pytest.mark.parametrize(
    ("product", "resource", "vendor"),
    [
        ("anything", "amd.com/gpu", Vendor.AMD),
        ("NVIDIA H200", "", Vendor.NVIDIA),
        ("Gaudi3", "", Vendor.HABANA),
        ("AMD Instinct MI999", "", Vendor.AMD),
    ],
)
def test_vendor_follows_from_resource_or_product(product: str, resource: str, vendor: Vendor) -> None:
    assert accelerators.vendor_of(product, resource) is vendor
