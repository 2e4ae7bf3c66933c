"""Search a bundle's settings with Optuna, ``python -m bundles.search``: a training for each draw.

The same command goes on with a search that was stopped, or that is asked for more trials.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundles.alone_in import alone_in
from bundles.bundle_config import config_files, merged_config
from bundles.comparison_runs import differences
from bundles.given_settings import given_settings
from bundles.run_bundle import check_overrides
from bundles.run_folders import runs_folder
from bundles.training_program import TrainingProgram
from cohorts.datalist import load_datalist
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json

if TYPE_CHECKING:
    from bundles.search_study import SearchPlan, SearchStudy

# Settings of a place that are the user's to choose.
WHERE_COMPUTED = {"device", "memory_format"}


def search(plan: SearchPlan, about: dict[str, Any], *, trials: int, timeout_s: float) -> int:
    """Run a search to ``trials`` trials in all and write what it found into its folder.

    Args:
        plan: of the search.
        about: what the folder's search must be of, as JSON can hold it.
        trials: 1 or more; those of earlier calls count.
        timeout_s: no trial begins later.

    Returns:
        Exit code: 0, or 1 where no trial has a value.

    Raises:
        ValueError: a rule is broken, or the folder holds another search.
    """
    from bundles.search_study import SearchStudy
    from bundles.search_tracking import SearchTracking

    folder = plan.folder
    with alone_in(folder, "search"):
        _check_same(folder, about)
        write_json(folder / "search.json", about)
        study = SearchStudy(plan)
        tracking = SearchTracking(
            plan.training.config()["experiment"],
            name=folder.name,
            params={
                **about["space"],
                "metric": plan.judge.metric,
                "data_list": str(plan.training.datalist),
            },
            earlier=study.mlflow_address,
        )
        status = "KILLED"
        try:
            study.run(trials, timeout_s=timeout_s, tracking=tracking)
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            tracking.end(status, study.write())
        return _conclusion(study, plan)


def _conclusion(study: SearchStudy, plan: SearchPlan) -> int:
    rows, best = study.rows(), study.best()
    print(f"\n{len(rows)} trials, {sum(row.value is None for row in rows)} failed")
    if best is None:
        reason = rows[-1].error if rows else "there was no time for any"
        print(
            f"error: a search must have a trial with a value, got none: {reason}", file=sys.stderr
        )
        return 1
    print(f"best: {best.name}, {plan.judge.metric} {best.value:.5g}")
    print(f"written: {plan.folder / 'best.yaml'}, to be used as --overlay, and trials.csv")
    return 0


def _check_same(folder: Path, about: dict[str, Any]) -> None:
    try:
        earlier = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    for name, (old, new) in differences([earlier, about]).items():
        raise ValueError(
            f"{folder} must hold the same search, got {name} {old} where {new} is asked for; "
            "name another --output, or remove that folder"
        )


def _plan(options: argparse.Namespace) -> SearchPlan:
    from bundles.search_judge import check_comparable, search_judge
    from bundles.search_space import OWN_SETTINGS, read_space
    from bundles.search_study import SearchPlan

    for name, value in {"trials": options.trials, "timeout": options.timeout}.items():
        if not value > 0:
            raise ValueError(f"--{name} must be above 0, got {value}")
    settings = given_settings(options.set)
    for name in sorted((OWN_SETTINGS - WHERE_COMPUTED) & settings.keys()):
        raise ValueError(f"--set must not name {name}, which each trial has of its own")
    config = merged_config(config_files(options.bundle, "train", options.overlay))
    check_overrides(settings, config)
    for split in ("training", "validation"):
        load_datalist(options.datalist, split)
    output = options.output or runs_folder() / options.bundle / "search"
    training = TrainingProgram(
        bundle=options.bundle,
        overlays=options.overlay,
        settings=settings,
        datalist=options.datalist.resolve(),
        folder=writable_folder(output).resolve(),
    )
    config = training.config()
    space = read_space(options.space, config)
    for name in sorted(space.keys() & settings.keys()):
        raise ValueError(f"{name} must be either varied or set, got it in --space and in --set")
    judge = search_judge(config, maximize=options.maximize, minimize=options.minimize)
    check_comparable(space, judge, config)
    return SearchPlan(training=training, space=space, judge=judge)


def _about(plan: SearchPlan) -> dict[str, Any]:
    """What makes two searches one."""
    from bundles.search_space import OWN_SETTINGS

    training, judge = plan.training, plan.judge
    config = training.config()
    return {
        "bundle": training.bundle,
        "datalist_sha256": hashlib.sha256(training.datalist.read_bytes()).hexdigest(),
        "metric": judge.metric,
        "minimize": judge.minimize,
        "space": {name: repr(drawn) for name, drawn in plan.space.items()},
        "config": {name: config[name] for name in config if name not in OWN_SETTINGS | {"_meta_"}},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles.search", description=__doc__)
    parser.add_argument("bundle", help="name of the bundle, such as lung_ct_cancer_risk")
    parser.add_argument("--datalist", type=Path, required=True, help="datalist JSON")
    parser.add_argument(
        "--space",
        type=Path,
        required=True,
        help="YAML of the settings to vary, such as `learning_rate: {low: 1e-4, high: 1e-2, "
        "log: true}` or `batch_size: {choices: [2, 4]}`",
    )
    parser.add_argument("--trials", type=int, required=True, help="in all, earlier ones included")
    parser.add_argument(
        "--timeout",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="no trial begins later; the one that runs is finished",
    )
    overlay = "of every trial: a further file of configs/, or a path"
    parser.add_argument("--overlay", action="append", default=[], help=overlay)
    setting = "a setting of every trial, such as max_epochs=3"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=setting)
    parser.add_argument("--output", type=Path, help="folder of the trials and the results")
    judges = parser.add_mutually_exclusive_group()
    for direction in ("maximize", "minimize"):
        judge = "a metric of the validation to judge by, in place of its key metric"
        judges.add_argument(f"--{direction}", metavar="METRIC", help=judge)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 after one sentence on the rule broken; 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("optuna") is None:
        print("error: a search needs Optuna, got none: pip install -e '.[search]'", file=sys.stderr)
        return 1
    try:
        plan = _plan(options)
        return search(plan, _about(plan), trials=options.trials, timeout_s=options.timeout)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    sys.exit(main())
