"""``python -m bundles.pack``: a trained bundle as one self-contained zip for the model zoo."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from bundles.bundle_config import bundle_configs
from bundles.exit_code import quiet_libraries
from bundles.package_files import WEIGHTS, package_files
from bundles.package_zip import MANIFEST, manifest, write_zip
from bundles.packed_weights import LARGE_BYTES, large_files_yaml
from bundles.run_folders import last_run
from cohorts.replaced_file import replaced_file
from cohorts.run_command import run_command


def pack_bundle(
    bundle: str,
    run_dir: Path,
    output: Path,
    *,
    weights_url: str | None = None,
    data_license: Path | None = None,
) -> Path:
    """Write ``<bundle>-<version>.zip`` into ``output``, and return its path.

    Everything is read and checked before anything is written. The same run and code give the same
    bytes.

    Args:
        bundle: name of a folder of ``bundles/``.
        run_dir: a run, with ``model.pt``, ``config.yaml`` and ``trained.yaml``.
        output: folder of the zip, made if needed.
        weights_url: where weights of more than 25 MB will be downloaded from. They are then left
            out of the zip and written beside it.
        data_license: a text on the training data, where that is not phantoms.

    Raises:
        ValueError: an unknown bundle, weights of another network, or another rule broken.
        FileNotFoundError: the run has no weights.
        OSError: the zip cannot be written.
    """
    version, files = package_files(bundle, run_dir, data_license)
    path = output / f"{bundle}-{version}.zip"
    weights = files[WEIGHTS]
    large = len(weights) > LARGE_BYTES
    if large:
        if weights_url is None:
            raise ValueError(
                f"weights of more than {LARGE_BYTES / 1e6:g} MB need --weights-url, the address "
                f"that they will be downloaded from, got {len(weights) / 1e6:.1f} MB"
            )
        files["large_files.yml"] = large_files_yaml(weights, weights_url).encode()
    files[MANIFEST] = manifest(files)
    output.mkdir(parents=True, exist_ok=True)
    if large:
        # Not in the zip, but in its manifest, which holds once they are downloaded.
        with replaced_file(output / f"{path.stem}-model.pt") as part:
            part.write_bytes(files.pop(WEIGHTS))
    write_zip(path, bundle, files)
    return path


def _run_of(bundle: str) -> Path:
    """The last run with weights; where there is none, the demo's training."""
    try:
        return last_run(bundle)
    except ValueError:
        bundle_configs(bundle)  # an unknown one stays an error
    from bundles.demo_run import demo_run

    print(
        f"{bundle} was not trained here yet: training it on phantoms with its demo overlay, for "
        "some minutes (all four trainings of make demo took 17 on two cores)",
        flush=True,
    )
    return demo_run(bundle)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles.pack", description=__doc__)
    parser.add_argument("bundle", help="name of the bundle, such as lung_ct_cancer_risk")
    parser.add_argument("--run", type=Path, help="folder of a training run; else the last")
    parser.add_argument(
        "--output", type=Path, default=Path("dist"), help="folder of the zip (default: dist)"
    )
    parser.add_argument(
        "--weights-url",
        metavar="URL",
        help="where weights of more than 25 MB will be downloaded from; you put them there",
    )
    parser.add_argument(
        "--data-license",
        type=Path,
        metavar="TXT",
        help="text on the training data, its source in the first line; phantoms need none",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 after one sentence on the rule that was broken."""
    options = _parser().parse_args(arguments)
    quiet_libraries()

    def work() -> None:
        path = pack_bundle(
            options.bundle,
            options.run or _run_of(options.bundle),
            options.output,
            weights_url=options.weights_url,
            data_license=options.data_license,
        )
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        print(f"packed: {path}, {len(content)} bytes, sha256 {digest}")

    return run_command(work, options.output)


if __name__ == "__main__":
    sys.exit(main())
