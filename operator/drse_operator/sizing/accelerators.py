"""What the data sheets say of accelerators, and whether a kind in the cluster is the one a user asked for.

Nodes publish a product name and the memory that the driver reports. Neither says how fast a card is or
whether it multiplies in FP8, and the memory is a few per cent below what the card is sold as: an "80 GB"
H100 reports 81559 MiB, a "48 GB" L40S 46068 MiB with ECC on. This table supplies the first; the second is
bridged by :func:`marketed_memory`, so that ``memoryPerGPU: 80Gi`` means the card that everybody calls 80 GB.

Product names are compared word by word and never by substring: ``H20`` is not an ``H200`` and ``L4`` is
not an ``L40S``.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache

from drse_operator.api.deepseekjob import Accelerator
from drse_operator.api.enums import Vendor
from drse_operator.sizing.shapes import AcceleratorKind

GIB = 2**30

#: How far published memory may lie below the size a card is sold as: ECC and firmware take up to 6.3 %
#: (T4, L40S). A slice of a card (MIG, vGPU) lies far below and is not taken for the whole card.
_HIDDEN_SHARE = 0.1
#: Sizes in GB that cards are sold with, for products that are not in the table.
_SOLD_SIZES = (8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 144, 180, 186, 192, 256, 288)
#: Words of brand and trade that say nothing about the product.
_NOISE = frozenset({"nvidia", "amd", "intel", "habana", "instinct", "tesla", "gpu", "hpu", "accelerator"})
_VENDOR_OF_RESOURCE = {
    "nvidia.com/gpu": Vendor.NVIDIA,
    "amd.com/gpu": Vendor.AMD,
    "habana.ai/gaudi": Vendor.HABANA,
}
_MEMORY_WORD = re.compile(r"^([0-9]+)(gb|gib|gi)$")


@dataclass(frozen=True, slots=True)
class AcceleratorFacts:
    """One product by its data sheet.

    ``words`` must all occur in the product name that a node publishes; ``aliases`` are further words a user
    may call it by. ``marketed_gb`` is the memory it is sold with; ``tflops`` is dense (not sparse) BF16
    TFLOPS, FP16 where the chip has no BF16; ``fp8`` says whether matrix units take 8-bit floats;
    ``fast_link`` whether the GPUs of one node talk over NVLink, Infinity Fabric or Gaudi's Ethernet.
    """

    vendor: Vendor
    name: str
    words: frozenset[str]
    aliases: frozenset[str]
    marketed_gb: int
    tflops: int
    fp8: bool
    fast_link: bool
    source: str

    @property
    def memory(self) -> int:
        """Bytes of one GPU to count on where a node publishes none: the size on sale in decimal GB."""
        return self.marketed_gb * 10**9


def _row(
    vendor: Vendor,
    name: str,
    words: str,
    aliases: str,
    gb: int,
    tflops: int,
    fp8: bool,
    link: bool,
    source: str,
) -> AcceleratorFacts:
    needed, other = frozenset(words.split()), frozenset(aliases.split())
    return AcceleratorFacts(vendor, name, needed, other, gb, tflops, fp8, link, source)


_N, _A, _H = Vendor.NVIDIA, Vendor.AMD, Vendor.HABANA
_NV = "NVIDIA data sheet: "
_AMD = "AMD data sheet: "
_INTEL = "Intel white paper: "
_LENOVO = "Lenovo ThinkSystem product guide"

#: Where two rows fit a product name, the one with more words speaks, then the earlier one.
#: TFLOPS on NVIDIA's sheets are often "with sparsity": the dense figure is half of that.
TABLE: tuple[AcceleratorFacts, ...] = (
    _row(_N, "GB300", "gb300", "blackwell", 288, 2500, True, True, _NV + "GB300 NVL72"),
    _row(_N, "B300", "b300", "blackwell sxm sxm6", 288, 2250, True, True, _NV + "HGX B300 over 8"),
    _row(_N, "GB200", "gb200", "blackwell", 186, 2500, True, True, _NV + "GB200 NVL72 over 72"),
    _row(_N, "B200", "b200", "blackwell sxm sxm6", 180, 2250, True, True, _NV + "HGX B200 over 8"),
    _row(_N, "H200 NVL", "h200 nvl", "hopper pcie", 141, 835, True, True, _NV + "H200"),
    _row(_N, "H200 SXM", "h200", "hopper sxm sxm5", 141, 989, True, True, _NV + "H200"),
    _row(_N, "GH200", "gh200", "hopper", 96, 989, True, True, _NV + "GH200 Grace Hopper"),
    _row(_N, "H100 NVL", "h100 nvl", "hopper pcie", 94, 835, True, True, _NV + "H100"),
    _row(_N, "H100 PCIe", "h100 pcie", "hopper", 80, 756, True, False, _NV + "H100"),
    _row(_N, "H100 SXM", "h100", "hopper sxm sxm5 hbm3", 80, 989, True, True, _NV + "H100"),
    _row(_N, "H800 PCIe", "h800 pcie", "hopper", 80, 756, True, False, _LENOVO),
    _row(_N, "H800 SXM", "h800", "hopper sxm sxm5", 80, 989, True, True, "as H100, arXiv:2412.19437"),
    _row(_N, "H20-3e", "h20 3e", "hopper sxm sxm5", 141, 148, True, True, _LENOVO),
    _row(_N, "H20", "h20", "hopper sxm sxm5", 96, 148, True, True, _LENOVO),
    _row(_N, "A100 PCIe 40 GB", "a100 pcie 40gb", "ampere", 40, 312, False, False, _NV + "A100"),
    _row(_N, "A100 SXM 40 GB", "a100 40gb", "ampere sxm sxm4", 40, 312, False, True, _NV + "A100"),
    _row(_N, "A100 PCIe", "a100 pcie", "ampere", 80, 312, False, False, _NV + "A100"),
    _row(_N, "A100 SXM", "a100", "ampere sxm sxm4", 80, 312, False, True, _NV + "A100"),
    _row(_N, "A800 PCIe", "a800 pcie", "ampere", 80, 312, False, False, _LENOVO),
    _row(_N, "A800 SXM", "a800", "ampere sxm sxm4", 80, 312, False, True, _LENOVO),
    _row(_N, "RTX PRO 6000", "rtx pro 6000", "blackwell pcie", 96, 503, True, False, _NV + "RTX PRO 6000"),
    _row(_N, "RTX 6000 Ada", "rtx 6000 ada", "lovelace pcie", 48, 364, True, False, _NV + "RTX 6000 Ada"),
    _row(_N, "L40S", "l40s", "ada lovelace pcie", 48, 362, True, False, _NV + "L40S"),
    _row(_N, "L40", "l40", "ada lovelace pcie", 48, 181, True, False, _NV + "L40"),
    _row(_N, "L20", "l20", "ada lovelace pcie", 48, 119, True, False, _LENOVO),
    _row(_N, "L4", "l4", "ada lovelace pcie", 24, 121, True, False, _NV + "L4"),
    _row(_N, "A40", "a40", "ampere pcie", 48, 149, False, False, _NV + "A40"),
    _row(_N, "A30", "a30", "ampere pcie", 24, 165, False, False, _NV + "A30"),
    _row(_N, "A10G", "a10g", "ampere pcie", 24, 70, False, False, "AWS EC2 G5, FP16"),
    _row(_N, "A10", "a10", "ampere pcie", 24, 125, False, False, _NV + "A10"),
    _row(_N, "RTX 5090", "rtx 5090", "geforce blackwell pcie", 32, 209, True, False, "RTX Blackwell paper"),
    _row(_N, "RTX 4090", "rtx 4090", "geforce ada lovelace pcie", 24, 165, True, False, "Ada paper"),
    _row(_N, "V100 SXM 32 GB", "v100 32gb", "volta sxm sxm2 sxm3", 32, 125, False, True, _NV + "V100, FP16"),
    _row(_N, "V100 PCIe", "v100 pcie", "volta", 16, 112, False, False, _NV + "V100, FP16"),
    _row(_N, "V100 SXM", "v100", "volta sxm sxm2", 16, 125, False, True, _NV + "V100, FP16"),
    _row(_N, "T4", "t4", "turing pcie", 16, 65, False, False, _NV + "T4, FP16"),
    _row(_A, "MI355X", "mi355x", "mi355 cdna4 oam", 288, 2516, True, True, _AMD + "MI355X"),
    _row(_A, "MI350X", "mi350x", "mi350 cdna4 oam", 288, 2307, True, True, _AMD + "MI350X"),
    _row(_A, "MI325X", "mi325x", "mi325 cdna3 oam", 256, 1307, True, True, _AMD + "MI325X"),
    _row(_A, "MI300X", "mi300x", "mi300 cdna3 oam", 192, 1307, True, True, _AMD + "MI300X"),
    # One package holds two dies, and each die is a GPU of its own to driver and device plugin.
    _row(_A, "MI250X die", "mi250x", "mi250 cdna2 oam", 64, 191, False, True, _AMD + "MI250X, half"),
    _row(_A, "MI210", "mi210", "cdna2 pcie", 64, 181, False, False, _AMD + "MI210"),
    _row(_H, "Gaudi 3", "gaudi3", "gaudi oam", 128, 1678, True, True, _INTEL + "Gaudi 3"),
    _row(_H, "Gaudi 3", "hl325", "gaudi3 gaudi oam", 128, 1678, True, True, _INTEL + "Gaudi 3"),
    _row(_H, "Gaudi 3", "hl325l", "gaudi3 gaudi oam", 128, 1678, True, True, _INTEL + "Gaudi 3"),
    _row(_H, "Gaudi 2", "gaudi2", "gaudi oam", 96, 432, True, True, _INTEL + "Gaudi 2"),
    _row(_H, "Gaudi 2", "hl225", "gaudi2 gaudi oam", 96, 432, True, True, _INTEL + "Gaudi 2"),
    _row(_H, "Gaudi 2", "hl225h", "gaudi2 gaudi oam", 96, 432, True, True, _INTEL + "Gaudi 2"),
)


def words(name: str) -> tuple[str, ...]:
    """The words of a product name in lower case; all but letters and digits separates words."""
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))


def _with_joins(tokens: tuple[str, ...]) -> frozenset[str]:
    """The words and each pair of neighbours joined, so that ``Gaudi 3`` and ``80 GB`` read as one word."""
    return frozenset(tokens) | {a + b for a, b in itertools.pairwise(tokens)}


@lru_cache(maxsize=1024)
def lookup(product_name: str) -> AcceleratorFacts | None:
    """Facts on a product by the name that nodes publish, or None when the table does not have it."""
    published = _with_joins(words(product_name))
    fitting = [facts for facts in TABLE if facts.words <= published]
    return max(fitting, key=lambda facts: len(facts.words), default=None)


def marketed_memory(kind: AcceleratorKind) -> int:
    """Bytes of one GPU counted as its maker sells it: ``81559 MiB`` of an 80 GB card becomes 80 GiB.

    The published number is returned where no size on sale is just above it, as for a slice of a card.
    """
    facts = lookup(kind.product)
    if facts is not None and kind.memory == 0:
        return facts.marketed_gb * GIB
    sizes = ((facts.marketed_gb,) if facts is not None else ()) + _SOLD_SIZES
    for size in sizes:
        if kind.memory <= size * GIB <= kind.memory / (1 - _HIDDEN_SHARE):
            return size * GIB
    return kind.memory


def usable_memory(kind: AcceleratorKind) -> int:
    """Bytes of one GPU that programs can count on: as published, else its size on sale in decimal GB."""
    if kind.memory > 0:
        return kind.memory
    facts = lookup(kind.product)
    return facts.memory if facts is not None else 0


def vendor_of(product: str, resource: str = "") -> Vendor:
    """The maker of a product: by its extended resource if it has one, else by table and brand words."""
    if resource in _VENDOR_OF_RESOURCE:
        return _VENDOR_OF_RESOURCE[resource]
    facts = lookup(product)
    if facts is not None:
        return facts.vendor
    brand = set(words(product))
    if brand & {"amd", "instinct", "radeon"}:
        return Vendor.AMD
    return Vendor.HABANA if brand & {"habana", "gaudi", "hl"} else Vendor.NVIDIA


def multiplies_fp8(kind: AcceleratorKind) -> bool:
    """Whether the kind is known to compute on 8-bit floats; FP8 weights are widened to BF16 where not."""
    facts = lookup(kind.product)
    return facts is not None and facts.fp8


def matches(accelerator: Accelerator, kind: AcceleratorKind) -> bool:
    """Whether a kind is one that the user names: same vendor, and every word asked for occurs.

    A word such as ``80GB`` is compared with the memory the card is sold with; words of the data sheet
    (``SXM``, ``Hopper``) count although nodes do not publish them.
    """
    if accelerator.vendor is not kind.vendor:
        return False
    asked = words(accelerator.product or "")
    published = _with_joins(words(kind.product))
    facts = lookup(kind.product)
    known = published | (facts.words | facts.aliases if facts is not None else frozenset())
    if "".join(asked) in known:
        return True
    return all(word in known or word in _NOISE or _is_memory_of(word, kind) for word in _join_units(asked))


def _join_units(asked: tuple[str, ...]) -> tuple[str, ...]:
    """``80 gb`` as one word, so that a size may be written with or without a blank."""
    return words(re.sub(r"\b([0-9]+) (gb|gib|gi)\b", r"\1\2", " ".join(asked)))


def _is_memory_of(word: str, kind: AcceleratorKind) -> bool:
    size = _MEMORY_WORD.match(word)
    return size is not None and int(size.group(1)) * GIB == marketed_memory(kind)
