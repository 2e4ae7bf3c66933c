"""Volumes kept on disk as they are before the random part of a training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, MapTransform, RandomizableTrait

from transforms.checked_entries import CheckedEntries
from transforms.stored_volume import StoredVolume, compressed_volume, stored_regions

_FORMAT = 1
_RECORDS = "volumes.json"
_PACKAGES = ("monai", "numpy", "scipy", "torch")


class CachedVolumesd(MapTransform):
    """Replaces paths by :class:`StoredVolume`, of which a random crop reads only its patch.

    What ``transform`` makes of an item is computed at the item's first use and kept: in a later
    run, or by another one at the same time, it is only opened. It is made anew when the item, its
    files, the transforms' settings, their code or the versions of MONAI, NumPy, SciPy and torch
    change. All else of an item passes as it is given.

    Args:
        keys: volumes ``(1, *spatial)`` to keep: a CT in HU, rounded to whole HU, and label maps.
        transform: one or several without chance, from paths to HU on the network's grid; windows
            and scaling come after the crop.
        folder: of the cache; entries no longer wanted stay until it is deleted.
        hash_func: of an item and its files, such as ``cohorts.scan_hash.scan_hash``.

    Raises of a call:
        ScanError: of ``transform``, or a volume that cannot be stored.
        OSError: the folder cannot be written or has no room.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: Sequence[Callable[..., Any]],
        *,
        folder: str | Path,
        hash_func: Callable[[Mapping[str, Any]], bytes],
    ) -> None:
        super().__init__(keys)
        self.transform = Compose(transform).flatten()
        for step in self.transform.transforms:
            if isinstance(step, RandomizableTrait):
                raise ValueError(
                    f"transform must hold no random one, which comes after the cache, "
                    f"got {type(step).__name__}"
                )
        self.entries = CheckedEntries(folder)
        self.hash_func = hash_func
        # Once, since a pickled copy of the transforms may have another hash.
        self._settings = _settings_hash(self.keys, self.transform.transforms)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        entry = self.entries.find_or_make(self.entry_key(data), partial(self._files, data))
        records = json.loads((entry / _RECORDS).read_bytes())
        return {**data, **{key: _opened(entry, str(key), records[key]) for key in self.keys}}

    def entry_key(self, item: Mapping[Any, Any]) -> str:
        """Name of an item's entry: a hash of all that it depends on."""
        return hashlib.sha256(self._settings + self.hash_func(item)).hexdigest()[:32]

    def holds(self, item: Mapping[Any, Any]) -> bool:
        """Whether the item is kept, undamaged."""
        return self.entries.find(self.entry_key(item)) is not None

    def _files(self, item: Mapping[Any, Any]) -> dict[str, bytes]:
        sample = self.transform(dict(item))
        files, records = {}, {}
        for key in self.key_iterator(sample):
            volume = sample[key]
            files[_file_name(key)] = compressed_volume(volume)
            records[key] = {
                "shape": list(volume.shape[1:]),
                "regions": stored_regions(volume),
                "dtype": str(volume.dtype).removeprefix("torch."),
                "affine": volume.affine.tolist(),
                "source": str(volume.meta.get("filename_or_obj", "")),
            }
        return {**files, _RECORDS: json.dumps(records, indent=1).encode()}


def _opened(entry: Path, key: str, record: Mapping[str, Any]) -> StoredVolume:
    return StoredVolume(
        path=entry / _file_name(key),
        affine=torch.tensor(record["affine"], dtype=torch.float64),
        spatial_shape=tuple(record["shape"]),
        regions=tuple((tuple(start), tuple(stop)) for start, stop in record["regions"]),
        dtype=record["dtype"],
        source=record["source"],
    )


def _file_name(key: str) -> str:
    return f"{key}.b2nd"


def _settings_hash(keys: Sequence[Any], transforms: Sequence[Any]) -> bytes:
    versions = [version(package) for package in _PACKAGES]
    digest = hashlib.sha256(pickle_hashing([_FORMAT, versions, list(keys), list(transforms)]))
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()
