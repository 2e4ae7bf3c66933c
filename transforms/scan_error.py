"""The error for scans, masks and boxes that break a rule."""

from __future__ import annotations

from typing import Any


class ScanError(ValueError):
    """A scan, mask or box breaks a rule; the message names the file, the rule and the value."""


def scan_name(image: Any) -> str:
    """The file a MetaTensor was read from, or ``"the image"`` when it carries none."""
    return str(getattr(image, "meta", {}).get("filename_or_obj", "the image"))
