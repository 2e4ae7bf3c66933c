"""What a datalist says of the public collection or the study that its scans come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohorts.datalist import SPLITS, Item
from cohorts.patient_split import patient_split


@dataclass(frozen=True)
class Collection:
    """A collection of scans: its name, what is in it, its terms and what its boxes show.

    ``box_label_names`` name box labels 0 and 1 (malignant). Where ``knows_cancer`` is false the
    collection does not say who has cancer, and the risk of 0 in its items means nothing.
    """

    name: str
    description: str
    license: str
    program: str
    version: int = 1
    box_label_names: tuple[str, ...] = ("benign", "malignant")
    knows_cancer: bool = True

    def datalist(
        self, items: Mapping[str, Sequence[Item]], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The datalist of items by split, boxes in RAS mm (cccwhd).

        Args:
            items: for each of the three splits; one that is left out is empty.
            settings: of the reader, JSON values.
        """
        return {
            "name": self.name,
            "description": self.description,
            "license": self.license,
            "world_frame": "RAS",
            "box_mode": "cccwhd",
            "box_unit": "mm",
            "box_label_names": list(self.box_label_names),
            "knows_cancer": self.knows_cancer,
            "synthetic": False,
            "generator": {"program": self.program, "version": self.version, **settings},
            **{split: list(items.get(split, [])) for split in SPLITS},
        }


def split_by_patient(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items by split, all of a patient's in one (:func:`cohorts.patient_split.patient_split`)."""
    return {
        split: [item for item in items if patient_split(item["patient_id"]) == split]
        for split in SPLITS
    }


def split_counts(datalist: Mapping[str, Any]) -> str:
    """How many scans and boxes each split of a datalist has, in one line."""
    return ", ".join(
        f"{split} {len(datalist[split])} scans with "
        f"{sum(len(item.get('boxes', [])) for item in datalist[split])} boxes"
        for split in SPLITS
    )


def datalist_path(file: Path, folder: Path) -> str:
    """How a datalist in ``folder`` names a file that stays where it is."""
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return str(file.resolve())
