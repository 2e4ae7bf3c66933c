"""Command line of the bundles: ``python -m bundles train | evaluate | predict | demo``."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with one sentence on a rule broken, 130 on Ctrl-C."""
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        sentence = root_cause(error)
        if not isinstance(sentence, (ValueError, OSError)):
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return 0


def root_cause(error: BaseException) -> BaseException:
    """What went wrong below the layers in which MONAI wraps an error."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def train(options: argparse.Namespace) -> None:
    """Train a bundle into a folder of its own under ``runs/<bundle>/``."""
    from bundles.run_bundle import run_bundle

    resume = options.resume
    if resume is None:
        run_dir = runs_folder() / options.bundle / run_name("-".join(options.overlay) or "train")
    else:
        run_dir = Path(resume).resolve().parent
    run_bundle(
        options.bundle,
        "train",
        overlays=options.overlay,
        overrides={
            **_places(options.bundle, run_dir, options),
            **({"resume": str(resume)} if resume else {}),
            **_settings(options.set),
        },
    )
    print(f"trained: {run_dir}")


def evaluate(options: argparse.Namespace) -> None:
    """Judge a checkpoint on the test part of a datalist."""
    from bundles.run_bundle import run_bundle

    run_dir = options.run or last_run(options.bundle)
    run_bundle(
        options.bundle,
        "evaluate",
        overlays=[run_dir / "trained.yaml"],
        overrides={**_places(options.bundle, run_dir, options), **_settings(options.set)},
    )


def predict(options: argparse.Namespace) -> None:
    """Apply a checkpoint to scans without annotations."""
    from bundles.run_bundle import run_bundle

    run_dir = options.run or last_run(options.bundle)
    run_bundle(
        options.bundle,
        "inference",
        overlays=[run_dir / "trained.yaml"],
        overrides={
            **_places(options.bundle, run_dir, options),
            "scans": options.scans,
            "output_dir": str(options.output),
            **_settings(options.set),
        },
    )


def demo(options: argparse.Namespace) -> None:
    """Phantom scans, training, evaluation, one prediction and the page of it all."""
    from bundles.demo import run_demo

    run_demo(runs_folder().parent)


def runs_folder() -> Path:
    """Where trainings are kept, beside the tracking store."""
    from handlers.mlflow_store import checkout_folder

    return checkout_folder() / "runs"


def run_name(what: str) -> str:
    """A name that no other run has, not even one begun in the same second."""
    return f"{what}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def last_run(bundle: str) -> Path:
    """Folder of the run of ``bundle`` whose best weights are the newest.

    Raises:
        ValueError: if none has been trained.
    """
    folder = runs_folder() / bundle
    weights = sorted(folder.glob("*/model.pt"), key=lambda path: path.stat().st_mtime)
    if not weights:
        raise ValueError(
            f"{bundle} must have been trained before it is applied, got no model.pt below "
            f"{folder}; `make demo` or `python -m bundles train {bundle}` makes one"
        )
    return weights[-1].parent


def _places(bundle: str, run_dir: Path, options: argparse.Namespace) -> dict[str, Any]:
    from bundles.run_bundle import BUNDLES_ROOT

    places: dict[str, Any] = {"bundle_root": str(BUNDLES_ROOT / bundle), "run_dir": str(run_dir)}
    if getattr(options, "datalist", None) is not None:
        places["data_list"] = str(options.datalist)
    if getattr(options, "checkpoint", None) is not None:
        places["checkpoint"] = str(options.checkpoint)
    return places


def _settings(pairs: list[str]) -> dict[str, Any]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set must be given as name=value, got {pair}")
        settings[name] = yaml.safe_load(value)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(function: Any, *, bundle: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=function.__doc__)
        sub.set_defaults(command=function)
        if bundle:
            sub.add_argument("bundle", help="name of the bundle, such as lung_ct_cancer_risk")
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="NAME=VALUE",
                help="a setting of the config, such as max_epochs=3 or train::trainer::amp=true",
            )
        return sub

    training = command(train)
    training.add_argument("--datalist", type=Path, help="datalist JSON to train on")
    training.add_argument(
        "--overlay", action="append", default=[], help="a further file of configs/, or a path"
    )
    training.add_argument("--resume", type=Path, help="a last.pt to go on from, in its own folder")
    evaluation = command(evaluate)
    evaluation.add_argument("--datalist", type=Path, help="datalist JSON with a testing part")
    prediction = command(predict)
    prediction.add_argument(
        "--scans",
        nargs="+",
        required=True,
        help="NIfTI or .mhd files, DICOM series folders, or folders of these",
    )
    prediction.add_argument("--output", type=Path, required=True, help="folder of the results")
    for applied in (evaluation, prediction):
        applied.add_argument("--run", type=Path, help="folder of a training run; else the last")
        applied.add_argument("--checkpoint", type=Path, help="weights other than its model.pt")
    command(demo, bundle=False)
    return parser


if __name__ == "__main__":
    logging.captureWarnings(True)
    sys.exit(main())
