"""A batch that is a single sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.data import MetaTensor, list_data_collate


def batch_of_one(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """MONAI's ``list_data_collate`` for one sample, whose volumes are not copied.

    Raises:
        ValueError: more samples than one, or none.
    """
    if len(samples) != 1:
        raise ValueError(f"a batch must be one sample, got {len(samples)}")
    (sample,) = samples
    batch = {}
    for key, value in sample.items():
        if isinstance(value, MetaTensor):
            # Metadata and transforms as MONAI batches them, around an empty volume.
            empty = MetaTensor(
                value.as_tensor()[:0],
                meta=dict(value.meta),
                applied_operations=value.applied_operations,
            )
            batch[key] = list_data_collate([{key: empty}])[key]
            batch[key].set_(value.as_tensor()[None])
        else:
            batch[key] = list_data_collate([{key: value}])[key]
    return batch
