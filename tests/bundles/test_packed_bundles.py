"""Packed bundles, on their own: no checkout, no PYTHONPATH, any working folder."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundles.__main__ import main
from bundles.bare_interpreter import bare_environment, bare_interpreter
from bundles.bundle_config import trained_keys
from bundles.unpack_package import unpack_package
from bundles.verify import verify_package
from cohorts import load_datalist

CHECKOUT = Path(__file__).parents[2]
SCHEMA = CHECKOUT.parent / "shared/schema/meta_schema_20240725.json"
WORKFLOWS = ("train", "evaluate", "inference")
LOAD = "import monai.bundle; monai.bundle.load({name!r}, bundle_dir={folder!r}, device='cpu')"
# The fixture with what makes each bundle train in seconds.
SETTINGS = {
    "lung_ct_cancer_risk": "small_settings",
    "lung_ct_nodule_detection": "detector_settings",
    "lung_ct_nodule_segmentation": "segmenter_settings",
}
# Two epochs teach little: with these there are boxes to compare.
FINDINGS = {
    "lung_ct_nodule_detection": {"min_score": 0, "min_finding_score": 0, "max_boxes": 4},
}


def _run(jobs: list[dict[str, Any]], tmp_path: Path, store: Path) -> dict[str, dict[str, Any]]:
    """What each job ended with, its log and its modules of Locus."""
    folder = tmp_path / "results"
    folder.mkdir()
    script = Path(__file__).with_name("forked_commands.py")
    subprocess.run(
        [bare_interpreter(tmp_path / "python"), "-P", script, folder],
        input=json.dumps(jobs),
        text=True,
        check=True,
        cwd=folder,
        env={**bare_environment(), "MLFLOW_TRACKING_URI": f"sqlite:///{store}"},
    )
    results = {}
    for job in jobs:
        name = job["name"]
        result = json.loads((folder / f"{name}.json").read_text())
        results[name] = {**result, "log": (folder / f"{name}.log").read_text()}
    return results


def _options(**settings: Any) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def _tiny(bundle: str, settings: list[str]) -> list[str]:
    """What makes a training short, but for that which the package has from its run."""
    pairs = dict(setting.split("=", 1) for setting in settings if setting != "--set")
    packed = trained_keys(bundle)
    return _options(**{key: pairs[key] for key in pairs if key.split("::")[0] not in packed})


def _jobs(
    root: Path, package: Path, places: list[Path], options: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Download the package, then each workflow in another place, and loading in all of them."""
    name, folder = root.name, str(root.parent)
    source = _options(name=name, url=package.as_uri(), bundle_dir=folder)
    jobs: list[dict[str, Any]] = [
        {"name": "download", "folder": str(package.parent), "arguments": ["download", *source]}
    ]
    for workflow, place in zip(WORKFLOWS, places, strict=True):
        config = root / "configs" / f"{workflow}.json"
        file = config.relative_to(root) if place == root else config
        arguments = ["run", *_options(config_file=file), *options[workflow]]
        jobs.append({"name": workflow, "folder": str(place), "arguments": arguments})
    code = LOAD.format(name=name, folder=folder)
    return jobs + [
        {"name": f"load {number}", "folder": str(place), "code": code}
        for number, place in enumerate(places)
    ]


def _records(folder: Path) -> list[dict[str, Any]]:
    """Of each scan what was predicted, without the time that it took."""
    scans = json.loads((folder / "predictions.json").read_text())["scans"]
    return [{key: scan[key] for key in scan if key != "seconds"} for scan in scans]


def _assert_own_modules(result: dict[str, Any], root: Path) -> None:
    assert {"networks", "shared_code"} <= set(result["modules"])
    files = result["modules"].items()
    assert not [name for name, file in files if not Path(file).is_relative_to(root)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
@pytest.mark.parametrize("bundle", SETTINGS)
def test_a_packed_bundle_trains_evaluates_and_predicts_alone(
    bundle: str,
    packed: Callable[[str], Path],
    datalist: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    root, elsewhere = tmp_path / "downloaded" / bundle, tmp_path / "elsewhere"
    elsewhere.mkdir()
    scan = load_datalist(datalist, "testing")[0]["image"]
    tiny = _tiny(bundle, request.getfixturevalue(SETTINGS[bundle]))
    options = {
        "train": [*tiny, *_options(max_epochs=1, data_list=datalist)],
        "evaluate": _options(data_list=datalist),
        "inference": _options(scans=scan, **FINDINGS.get(bundle, {})),
    }
    # Each bundle's workflows another way round.
    turn = list(SETTINGS).index(bundle)
    places = [CHECKOUT, root, elsewhere]
    package = packed(bundle)
    jobs = _jobs(root, package, places[turn:] + places[:turn], options)
    for name, result in _run(jobs, tmp_path, package.with_name("mlflow.db")).items():
        assert result["code"] == 0, f"{name}: {result['log'][-3000:]}"
        if name != "download":
            _assert_own_modules(result, root)

    run = root / "runs" / "default"
    assert len(json.loads((run / "history.json").read_text())) == 1
    evaluation = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert evaluation["scans"] == 2 and evaluation["metrics"]
    _predict_in_the_checkout(bundle, package.parent, scan, tmp_path / "checkout")
    assert _records(run / "predictions") == _records(tmp_path / "checkout") != []


def _predict_in_the_checkout(bundle: str, folder: Path, scan: str, output: Path) -> None:
    (trained,) = (folder / "runs" / bundle).iterdir()
    settings = [f"--set={name}={value}" for name, value in FINDINGS.get(bundle, {}).items()]
    places = ["--run", str(trained), "--output", str(output)]
    assert main(["predict", bundle, *places, *settings, "--scans", scan]) == 0


@pytest.mark.parametrize("bundle", SETTINGS)
def test_a_packed_bundle_passes_every_check(
    packed: Callable[[str], Path], bundle: str, tmp_path: Path
) -> None:
    schema = SCHEMA
    if not schema.is_file():  # the zoo's rules are not here; all other checks are
        schema = tmp_path / "rules.json"
        schema.write_text('{"required": ["schema", "network_data_format"]}')
    results = list(verify_package(packed(bundle), schema=schema))
    assert all(result.passed for result in results), results
    assert len(results) == 10


def test_a_command_is_a_process_of_its_own(
    packed: Callable[[str], Path], datalist: Path, tmp_path: Path
) -> None:
    """As the documentation has it, with the working folder at the bundle."""
    root = unpack_package(packed("lung_ct_cancer_risk"), tmp_path / "package")
    scan = load_datalist(datalist, "testing")[0]["image"]
    options = _options(config_file="configs/inference.json", scans=scan, output_dir="results")
    subprocess.run(
        [bare_interpreter(tmp_path / "python"), "-m", "monai.bundle", "run", *options],
        check=True,
        cwd=root,
        env=bare_environment(),
    )
    assert [Path(each["scan"]).name for each in _records(root / "results")] == [Path(scan).name]
