"""Bodies of answers, made smaller for clients that can unpack them.

Compressing a large page takes longer than making it, so it is done where the page is made, in a thread, and
not on the event loop, where everybody would wait for it.
"""

from __future__ import annotations

import gzip

#: Smaller bodies fit into a packet or two as they are.
_LEAST = 2048
#: Half the work of the usual level for a tenth more bytes.
_LEVEL = 4


def pack(body: str, accepted: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers that say how to read it. ``accepted`` is the request's Accept-Encoding."""
    plain = body.encode()
    varies = {"Vary": "Accept-Encoding"}
    if len(plain) < _LEAST or not _takes_gzip(accepted):
        return plain, varies
    return gzip.compress(plain, _LEVEL, mtime=0), {**varies, "Content-Encoding": "gzip"}


def _takes_gzip(accepted: str) -> bool:
    """Whether gzip is among the codings accepted (RFC 9110, 12.5.3)."""
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
