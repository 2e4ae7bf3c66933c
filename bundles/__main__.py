"""Command line of the bundles, ``python -m bundles``: train, evaluate, predict, compare, demo."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with one sentence on a rule broken, 130 on Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["python", "-m", "bundles", *arguments])
    # What libraries tell their own developers, and MONAI's reminder that a config is a program.
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category)
    warnings.filterwarnings("ignore", message="parsing config_file")
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
    from bundles.run_bundle import resume_bundle, run_bundle
    from bundles.run_folders import new_run

    settings = _settings(options.set)
    if options.resume is not None:
        if options.overlay or options.datalist:
            raise ValueError("--resume must stand without --overlay and --datalist, got both")
        resume_bundle(options.bundle, options.resume, settings)
        print(f"trained: {options.resume.parent}")
        return
    names = [Path(overlay).stem for overlay in options.overlay]
    run_dir = new_run(options.bundle, "-".join(names) or "train")
    overrides = {**_places(options, run_dir), "run_name": run_dir.name, **settings}
    run_bundle(options.bundle, "train", overlays=options.overlay, overrides=overrides)
    print(f"trained: {overrides['run_dir']}")


def evaluate(options: argparse.Namespace) -> None:
    """Judge a checkpoint on the test part of a datalist."""
    from bundles.run_bundle import run_bundle
    from bundles.run_folders import last_run

    run_dir = options.run or last_run(options.bundle)
    run_bundle(
        options.bundle,
        "evaluate",
        overlays=[run_dir / "trained.yaml"],
        overrides={**_places(options, run_dir), **_settings(options.set)},
    )


def predict(options: argparse.Namespace) -> None:
    """Apply a checkpoint to scans without annotations."""
    from bundles.run_bundle import run_bundle
    from bundles.run_folders import last_run

    run_dir = options.run or last_run(options.bundle)
    run_bundle(
        options.bundle,
        "inference",
        overlays=[run_dir / "trained.yaml"],
        overrides={
            **_places(options, run_dir),
            "scans": options.scans,
            "output_dir": str(options.output),
            **_settings(options.set),
        },
    )
    print(f"written: {options.output}")


def compare(options: argparse.Namespace) -> None:
    """Train the arms of a bundle's comparison.yaml alike and judge them in one table."""
    from bundles.compare import compare_arms
    from bundles.run_folders import runs_folder

    compare_arms(
        options.bundle,
        options.datalist,
        output=options.output or runs_folder() / options.bundle / "comparison",
        seeds=options.seeds,
        command=options.command_line,
        arms=options.arms,
        overlays=options.overlay,
        settings=_settings(options.set),
        jobs=options.jobs,
    )


def demo(options: argparse.Namespace) -> None:
    """Phantom scans, training, evaluation, one prediction and the page of it all."""
    from bundles.demo import run_demo

    run_demo()


def _places(options: argparse.Namespace, run_dir: Path) -> dict[str, Any]:
    from bundles.bundle_config import bundle_configs

    places = {"bundle_root": str(bundle_configs(options.bundle).parent), "run_dir": str(run_dir)}
    for option, setting in {"datalist": "data_list", "checkpoint": "checkpoint"}.items():
        if getattr(options, option, None) is not None:
            places[setting] = str(getattr(options, option))
    return places


def _settings(pairs: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set must be given as name=value, got {pair}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--set must be given a value in YAML, got {pair}") from error
        settings[name] = _number(value) if isinstance(value, str) else value
    return settings


def _number(text: str) -> float | str:
    """YAML 1.1, which PyYAML reads, takes 1e-3 for a word."""
    try:
        return float(text)
    except ValueError:
        return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for function in (train, evaluate, predict, compare, demo):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(command=function)
        if function is demo:
            continue
        command.add_argument("bundle", help="name of the bundle, such as lung_ct_cancer_risk")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a setting of the config, such as max_epochs=3 or train::trainer::amp=true",
        )
        _add_options(command, function.__name__)
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    if name == "predict":
        scans = "NIfTI or .mhd files, DICOM series folders, or folders of these"
        command.add_argument("--scans", nargs="+", required=True, help=scans)
        command.add_argument("--output", type=Path, required=True, help="folder of the results")
    else:
        needed = name == "compare"
        command.add_argument("--datalist", type=Path, required=needed, help="datalist JSON")
    if name in ("train", "compare"):
        overlay = "a further file of configs/, or a path"
        command.add_argument("--overlay", action="append", default=[], help=overlay)
    if name == "compare":
        command.add_argument("--arms", nargs="+", default=[], help="those to compare; else all")
        command.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
        command.add_argument("--jobs", type=int, default=1, help="trainings at a time")
        command.add_argument("--output", type=Path, help="folder of the runs and the table")
    elif name == "train":
        command.add_argument("--resume", type=Path, help="the last.pt of a run to go on with")
    else:
        command.add_argument("--run", type=Path, help="folder of a training run; else the last")
        command.add_argument("--checkpoint", type=Path, help="weights other than its model.pt")


if __name__ == "__main__":
    sys.exit(main())
