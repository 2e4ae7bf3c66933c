"""Command line of the bundles, ``python -m bundles``: train, evaluate, predict, compare, demo."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from bundles.exit_code import exit_code
from bundles.given_settings import given_settings
from cohorts.shard import SHARD_HELP, WHOLE


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with one sentence on a rule broken, 130 on Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["python", "-m", "bundles", *arguments])
    return exit_code(lambda: options.command(options))


def train(options: argparse.Namespace) -> None:
    """Train a bundle into a folder of its own under ``runs/<bundle>/``."""
    from bundles.run_bundle import resume_bundle, run_bundle
    from bundles.run_folders import new_run

    settings = given_settings(options.set)
    if options.resume is not None:
        if options.overlay or options.datalist:
            raise ValueError("--resume must stand without --overlay and --datalist, got both")
        resume_bundle(options.bundle, options.resume, settings)
        _say_trained(options.resume.parent)
        return
    names = [Path(overlay).stem for overlay in options.overlay]
    run_dir = new_run(options.bundle, "-".join(names) or "train")
    overrides = {**_places(options, run_dir), "run_name": run_dir.name, **settings}
    run_bundle(options.bundle, "train", overlays=options.overlay, overrides=overrides)
    _say_trained(overrides["run_dir"])


def _say_trained(run_dir: Path | str) -> None:
    # The processes of torchrun have left their group by now; it numbered them.
    if os.environ.get("RANK", "0") == "0":
        print(f"trained: {run_dir}")


def evaluate(options: argparse.Namespace) -> None:
    """Judge a checkpoint on the test part of a datalist."""
    from bundles.run_bundle import run_bundle
    from bundles.run_folders import last_run

    run_dir = options.run or last_run(options.bundle)
    run_bundle(
        options.bundle,
        "evaluate",
        overlays=[run_dir / "trained.yaml", *options.overlay],
        overrides={**_places(options, run_dir), **given_settings(options.set)},
    )


def predict(options: argparse.Namespace) -> None:
    """Apply a checkpoint to scans without annotations; those done before are kept."""
    from bundles.bundle_config import config_files, merged_config
    from bundles.run_bundle import run_bundle
    from bundles.run_folders import last_run
    from bundles.settings_fingerprint import settings_fingerprint
    from cohorts.shard import Shard

    shard = Shard.parse(options.shard)
    run_dir = options.run or last_run(options.bundle)
    overlays = [run_dir / "trained.yaml", *options.overlay]
    overrides = {
        **_places(options, run_dir),
        "scans": options.scans,
        "output_dir": str(options.output),
        "shard": str(shard),
        **given_settings(options.set),
    }
    config = merged_config(config_files(options.bundle, "inference", overlays))
    overrides.setdefault("fingerprint", settings_fingerprint(config, overrides))
    run_bundle(options.bundle, "inference", overlays=overlays, overrides=overrides)
    print(f"written: {options.output}")
    if shard.count > 1:
        print(f"once all shards are done: python -m bundles.merge_predictions {options.output}")


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
        settings=given_settings(options.set),
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
        command.add_argument("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    else:
        needed = name == "compare"
        command.add_argument("--datalist", type=Path, required=needed, help="datalist JSON")
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
