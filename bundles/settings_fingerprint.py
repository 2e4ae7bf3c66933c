"""What the result of an inference depends on beside its weights and the scan, as one text."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import handlers
import metrics
import networks
import transforms
from bundles.bundle_config import PLACES

# Which scans are done, by which part and where the results go, changes none of them.
_WHICH_AND_WHERE = PLACES | {"scans", "output_dir", "shard", "fingerprint", "_meta_"}
_CODE = (handlers, metrics, networks, transforms)
_PACKAGES = ("monai", "numpy", "scipy", "torch")


def settings_fingerprint(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """Hash of a config and its overrides, of our code, and of the versions of what it rests on."""
    settings = [
        {key: value for key, value in part.items() if key not in _WHICH_AND_WHERE}
        for part in (config, overrides)
    ]
    versions = [platform.python_version(), *map(version, _PACKAGES)]
    digest = hashlib.sha256(json.dumps([settings, versions], sort_keys=True, default=str).encode())
    for package in _CODE:
        for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:32]
