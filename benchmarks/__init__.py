"""How Locus compares with its peers, measured side by side in one process."""

from __future__ import annotations
