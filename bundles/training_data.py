"""What a run's weights were trained on, as far as a package has to tell."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

from bundles.bundle_config import bundle_configs
from cohorts import read_datalist


class TrainingData(NamedTuple):
    """Texts for a package.

    Attributes:
        license: content of ``data_license.txt``.
        source: for ``data_source`` of metadata.json; None for the phantoms that it names.
    """

    license: str
    source: str | None


def training_data(bundle: str, run_dir: Path, data_license: Path | None) -> TrainingData:
    """The bundle's own text for weights of phantoms; for all others the one that is given.

    Args:
        bundle: name of a folder of ``bundles/``.
        run_dir: the run, whose ``config.yaml`` names the datalist.
        data_license: a text on the training data, its first line a title; None for phantoms.

    Raises:
        ValueError: no text is given, and the run was not trained on phantoms that still exist.
    """
    if data_license is not None:
        text = data_license.read_text(encoding="utf-8").strip()
        if not text:
            raise ValueError(f"--data-license must name a text on the data, got {data_license}")
        return TrainingData(text + "\n", text.splitlines()[0])
    datalist = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["data_list"]
    if not _is_synthetic(datalist):
        raise ValueError(
            "weights of other data than phantoms that are still there need --data-license, a text "
            f"on that data with its source in the first line, got {datalist}"
        )
    own = bundle_configs(bundle).parent / "data_license.txt"
    return TrainingData(own.read_text(encoding="utf-8"), None)


def _is_synthetic(datalist: str) -> bool:
    return Path(datalist).is_file() and bool(read_datalist(datalist).get("synthetic"))
