"""A packed bundle as a model of MLflow; the registry keeps this file beside the bundle's zip.

It stands alone: where the model is loaded there need be no Locus, but what the zip asks for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

# In a process of its own: versions of a bundle, whose modules are called alike, stand side by side.
RUN = "import json, sys; from monai.bundle import run; run(**json.load(sys.stdin))"
FAILED_SCANS = "scans failed, the first"  # of handlers.exit_on_failures


class PackedModel(PythonModel):
    """Applies a packed bundle's inference to scans that lie on this machine.

    A scan is a path; the numbers that the bundle writes of it come back. Its files, such as masks
    and pictures, stay where ``output_dir`` says, and are dropped where that is empty.
    """

    def load_context(self, context: Any) -> None:
        """Unzip the bundle into a temporary folder, which lives as long as the model."""
        self._unpacked = TemporaryDirectory(prefix="bundle-")
        folder = Path(self._unpacked.name)
        with zipfile.ZipFile(context.artifacts["package"]) as archive:
            archive.extractall(folder)
        (metadata,) = folder.glob("*/configs/metadata.json")
        self._root = metadata.parent.parent

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One row for each scan: ``scan``, ``result``, and ``error`` where it could not be read.

        Args:
            context: of MLflow.
            model_input: column ``scan``: NIfTI or .mhd files, DICOM series folders, or folders of
                these.
            params: ``output_dir``.

        Raises:
            RuntimeError: the inference broke off.
        """
        scans = [str(scan) for scan in model_input["scan"]]
        wanted = (params or {}).get("output_dir") or ""
        with TemporaryDirectory(prefix="predictions-") as temporary:
            output = Path(wanted).absolute() if wanted else Path(temporary)
            record = self._run(scans, output)
            results = record["scans"]
            if not wanted:
                results = [_without_files(result, output) for result in results]
        return [*_rows(results), *_failed_rows(record["failed"])]

    def _run(self, scans: list[str], output: Path) -> dict[str, Any]:
        configs = self._root / "configs"
        settings = {
            "config_file": str(configs / "inference.json"),
            "meta_file": str(configs / "metadata.json"),
            "logging_file": str(configs / "logging.conf"),
            "bundle_root": str(self._root),
            "scans": [str(Path(scan).absolute()) for scan in scans],
            "output_dir": str(output),
        }
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            input=json.dumps(settings),
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
        )
        said = (done.stderr or done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        # Scans that cannot be read end the program with a code too, and are in the record.
        if done.returncode and FAILED_SCANS not in said[-1]:
            raise RuntimeError(f"the inference of {self._root.name} failed: {said[-1]}")
        return json.loads((output / "predictions.json").read_text(encoding="utf-8"))


def _rows(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"scan": result.pop("scan"), "result": result, "error": None} for result in results]


def _failed_rows(failed: Iterable[dict[str, str]]) -> list[dict[str, Any]]:
    return [{"scan": each["scan"], "result": None, "error": each["error"]} for each in failed]


def _without_files(value: Any, folder: Path) -> Any:
    """What names a file of ``folder``, which is about to be removed, is left out."""
    if isinstance(value, dict):
        kept = {key: _without_files(each, folder) for key, each in value.items()}
        return {
            key: each
            for key, each in kept.items()
            if not (isinstance(each, str) and (folder / each).is_file() and key != "scan")
        }
    return [_without_files(each, folder) for each in value] if isinstance(value, list) else value


set_model(PackedModel())
