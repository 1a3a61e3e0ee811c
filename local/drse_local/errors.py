"""Errors of the embedded cluster that a person can act on."""

from __future__ import annotations


class LocalClusterError(Exception):
    """Something about the embedded cluster went wrong; the message says what and what to change."""
