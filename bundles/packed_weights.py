"""The weights of a run as a package carries them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser
from torch.nn import Module

from handlers.applied_calibration import applied_calibration
from handlers.trained_weights import load_trained_weights

# Above this the model zoo keeps weights out of a bundle's files.
LARGE_BYTES = 25_000_000


def trained_network(config: dict[str, Any], weights: Path) -> Module:
    """The network of a flat config, on the CPU and with the weights of a run.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are of another network, or of one that the code no longer builds.
    """
    try:
        network: Module = ConfigParser(config).get_parsed_content("network_def")
    except RuntimeError as error:
        reason = error.__cause__ or error
        raise ValueError(
            f"the network of a run must be one that this version of the code builds, got {weights} "
            f"({reason})"
        ) from error
    load_trained_weights(str(weights), network)
    return network


def weights_bytes(network: Module) -> bytes:
    """A ``model.pt``: the state dict as CPU tensors, the same bytes for the same numbers."""
    state = {name: value.cpu().contiguous().clone() for name, value in network.state_dict().items()}
    stream = io.BytesIO()  # a file's name would stand in what torch writes
    torch.save(state, stream)
    return stream.getvalue()


def packed_calibration(run_dir: Path, weights: bytes) -> dict[str, Any] | None:
    """The run's calibration, made out to the packed weights and without its patients' hashes.

    Raises:
        ValueError: it is no calibration, or one of other weights.
    """
    calibration = applied_calibration(run_dir / "calibration.json", run_dir / "model.pt")
    if calibration is None:
        return None
    digest = hashlib.sha256(weights).hexdigest()
    return asdict(replace(calibration, checkpoint_sha256=digest, patients_sha256=()))


def large_files_yaml(weights: bytes, url: str) -> str:
    """What ``monai.bundle download_large_files`` reads: where the weights are, and their hash."""
    entry = {
        "path": "models/model.pt",
        "url": url,
        "hash_val": hashlib.sha256(weights).hexdigest(),
        "hash_type": "sha256",
    }
    return yaml.safe_dump({"large_files": [entry]}, sort_keys=False)
