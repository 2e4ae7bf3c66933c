"""The bundles, and the command line that runs them."""

from __future__ import annotations
