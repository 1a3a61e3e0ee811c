"""What the accelerators in fleets report about themselves.

Memory is what the driver says, not what the box says: an "80 GB" H100 has 81,559 MiB. NVIDIA values are the
`total` of nvidia-smi (NVML) on the named boards, AMD and Gaudi values their data sheets' HBM size less what
the driver keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """Architecture name, memory in MiB as the driver reports it, CUDA compute capability (NVIDIA only)."""

    architecture: str
    memory_mib: int
    compute_capability: str = ""

    def with_memory(self, memory_mib: int) -> ProductFacts:
        """The same product with another amount of memory."""
        return replace(self, memory_mib=memory_mib)


_PRODUCTS = {
    "NVIDIA B200": ProductFacts("Blackwell", 183359, "10.0.0"),
    "NVIDIA H200": ProductFacts("Hopper", 143771, "9.0.0"),
    "NVIDIA H100 80GB HBM3": ProductFacts("Hopper", 81559, "9.0.0"),
    "NVIDIA A100-SXM4-80GB": ProductFacts("Ampere", 81920, "8.0.0"),
    "NVIDIA A100-SXM4-40GB": ProductFacts("Ampere", 40960, "8.0.0"),
    "NVIDIA L40S": ProductFacts("Ada Lovelace", 46068, "8.9.0"),
    "AMD Instinct MI300X OAM": ProductFacts("CDNA3", 196592),
    "HL-325": ProductFacts("Gaudi3", 131072),
}


def lookup_product(product: str) -> ProductFacts | None:
    """Facts of a product by the name that the driver gives it; None when it is not in the table."""
    return _PRODUCTS.get(product)
