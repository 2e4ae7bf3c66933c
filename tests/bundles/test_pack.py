from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import download_large_files

from bundles import pack, packed_weights
from bundles.bare_interpreter import bare_environment, bare_interpreter
from bundles.bundle_config import BUNDLES_ROOT, bundle_configs, bundle_names
from bundles.demo import COHORT
from bundles.pack import main, pack_bundle
from bundles.package_metadata import package_metadata, run_evaluation
from bundles.package_requirements import pinned_versions
from bundles.package_zip import manifest, write_zip
from bundles.unpack_package import unpack_package

CHECKOUT = BUNDLES_ROOT.parent
RISK, VOXELS = "lung_ct_cancer_risk", "lung_ct_nodule_segmentation"
LOAD_ALL = """
import monai.bundle

def load(bundle, folder):
    return monai.bundle.load(bundle, bundle_dir=folder, source="github", device="cpu")

for bundle in {bundles}:
    print("\\n>", bundle, type(load(bundle, {folder!r})).__name__)
import networks
print(">", len(networks.__path__), flush=True)
load({one!r}, {other!r})
"""


def _run_of(package: Path, bundle: str) -> Path:
    (run,) = (package.parent / "runs" / bundle).iterdir()
    return run


def _files(package: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(package) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def run(packed: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the segmenter's run, to change."""
    return shutil.copytree(_run_of(packed(VOXELS), VOXELS), tmp_path / "run")


def test_packing_twice_gives_the_same_bytes(
    packed: Callable[[str], Path], run: Path, tmp_path: Path
) -> None:
    again = pack_bundle(VOXELS, run, tmp_path / "new" / "dist")
    assert again.read_bytes() == packed(VOXELS).read_bytes()
    version = json.loads((bundle_configs(VOXELS) / "metadata.json").read_text())["version"]
    assert again.name == f"{VOXELS}-{version}.zip"
    assert [path.name for path in again.parent.iterdir()] == [again.name]


def test_the_zip_tells_nothing_of_when_and_where_it_was_packed(
    packed: Callable[[str], Path],
) -> None:
    with zipfile.ZipFile(packed(VOXELS)) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert {entry.filename.split("/")[0] for entry in entries} == {VOXELS}


@pytest.mark.parametrize("bundle", [RISK, VOXELS])
def test_a_package_holds_no_path_of_this_machine(
    packed: Callable[[str], Path], bundle: str
) -> None:
    package = packed(bundle)
    run = _run_of(package, bundle)
    # The datalist lies elsewhere than the run, and the run has both in its config.
    datalist = yaml.safe_load((run / "config.yaml").read_text())["data_list"]
    places = [str(run.parents[2]), str(Path(datalist).parent), str(CHECKOUT), f"{Path.home()}/"]
    for name, content in _files(package).items():
        for place in places:
            assert place.encode() not in content, f"{name}: {place}"


def test_the_manifest_is_what_sha256sum_checks(
    packed: Callable[[str], Path], tmp_path: Path
) -> None:
    root = unpack_package(packed(VOXELS), tmp_path)
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    lines = (root / "manifest.sha256").read_text().splitlines()
    assert [line[66:] for line in lines] == sorted(files - {"manifest.sha256"})
    if shutil.which("sha256sum") is not None:
        check = ["sha256sum", "--check", "--strict", "--quiet", "manifest.sha256"]
        subprocess.run(check, cwd=root, check=True)


def test_a_package_has_what_the_zoo_asks_for_and_no_more(packed: Callable[[str], Path]) -> None:
    files = _files(packed(VOXELS))
    assert {"LICENSE", "data_license.txt", "docs/README.md", "models/model.pt"} <= files.keys()
    assert "large_files.yml" not in files
    configs = {name for name in files if name.startswith("configs/")}
    overlays = {path.stem for path in bundle_configs(VOXELS).glob("*.yaml")} - {"common"}
    others = {"configs/metadata.json", "configs/logging.conf"}
    assert configs == others | {f"configs/{name}.json" for name in overlays}
    code = {name.split("/")[0] for name in files if name.endswith(".py")} - {"shared_code.py"}
    assert code == {"cohorts", "handlers", "losses", "metrics", "networks", "transforms"}
    for name in ("networks/unet.py", "transforms/load_scan.py"):
        assert files[name] == (CHECKOUT / name).read_bytes()
    readme = files["docs/README.md"].decode()
    assert "were not evaluated" in readme and "Synthetic chest-CT phantoms" in readme


def test_the_weights_are_those_of_the_run_on_the_cpu(packed: Callable[[str], Path]) -> None:
    stream = io.BytesIO(_files(packed(VOXELS))["models/model.pt"])
    weights = torch.load(stream, weights_only=True)
    run = torch.load(_run_of(packed(VOXELS), VOXELS) / "model.pt", weights_only=True)
    assert type(weights) is dict and list(weights) == list(run)
    for name, value in weights.items():
        assert value.device.type == "cpu" and torch.equal(value, run[name]), name


def test_the_calibration_is_of_the_packed_weights_and_names_no_patient(
    packed: Callable[[str], Path],
) -> None:
    files = _files(packed(RISK))
    path = _run_of(packed(RISK), RISK) / "calibration.json"
    assert ("models/calibration.json" in files) == path.exists()
    run = {
        "slope": 1.5,
        "intercept": -0.5,
        "threshold": 0.25,
        "target_sensitivity": 0.9,
        "split": "validation",
        "datalist": "phantom",
        "scans": 2,
        "positives": 1,
        "checkpoint_sha256": hashlib.sha256((path.parent / "model.pt").read_bytes()).hexdigest(),
        "patients_sha256": ["a" * 64],
    }
    folder = path.parent
    written = path.read_bytes() if path.exists() else None
    try:
        path.write_text(json.dumps(run))
        calibration = packed_weights.packed_calibration(folder, b"weights")
        path.write_text(json.dumps({**run, "checkpoint_sha256": "0" * 64}))
        with pytest.raises(ValueError, match="must be of the weights it is applied to"):
            packed_weights.packed_calibration(folder, b"weights")
    finally:
        path.unlink() if written is None else path.write_bytes(written)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert calibration == {**run, "checkpoint_sha256": digest, "patients_sha256": ()}


def test_the_measures_are_those_of_the_runs_evaluation(run: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((run / "model.pt").read_bytes()).hexdigest()
    measured = {"dice": 0.5, "dice_low": 0.25, "dice_high": 0.75, "sensitivity": None}
    evaluation = {
        "checkpoint": {"file": "elsewhere", "sha256": digest},
        "datalist": "phantom",
        "synthetic": True,
        "scans": 12,
        "metrics": measured,
    }
    (run / "evaluation").mkdir()
    (run / "evaluation/evaluation.json").write_text(json.dumps(evaluation))
    files = _files(pack_bundle(VOXELS, run, tmp_path))
    metadata = json.loads(files["configs/metadata.json"])
    assert metadata["eval_metrics"] == {
        "judged_on": "12 synthetic phantoms of phantom",
        **{name: value for name, value in measured.items() if value is not None},
    }
    assert b"| dice | 0.5 [0.25, 0.75] |" in files["docs/README.md"]

    evaluation["checkpoint"] = {"file": "elsewhere", "sha256": "0" * 64}
    (run / "evaluation/evaluation.json").write_text(json.dumps(evaluation))
    assert run_evaluation(run) is None  # of other weights
    (run / "evaluation/evaluation.json").write_text("{}")
    with pytest.raises(ValueError, match="must be what an evaluation writes"):
        run_evaluation(run)


def test_the_versions_are_those_of_the_requirements(packed: Callable[[str], Path]) -> None:
    metadata = json.loads(_files(packed(VOXELS))["configs/metadata.json"])
    pins = pinned_versions()
    assert metadata["pytorch_version"] == pins["torch"]
    assert metadata["monai_version"] == pins["monai"]
    required = metadata["required_packages_version"]
    assert required.items() <= pins.items()
    assert {"mlflow", "scikit-image", "connected-components-3d", "fire"} <= set(required)


def test_the_networks_format_is_that_of_the_trained_network(packed: Callable[[str], Path]) -> None:
    metadata = json.loads(_files(packed(VOXELS))["configs/metadata.json"])
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == ["2*n", "2*n", "2*n"]  # its tile_stride
    assert formats["outputs"]["pred"]["spatial_shape"] == ["2*n", "2*n", "2*n"]
    assert formats["outputs"]["pred"]["num_channels"] == 1


def test_a_version_without_a_line_in_the_changelog_is_refused() -> None:
    metadata = {"version": "1.1", "changelog": {"1.0": "First"}}
    with pytest.raises(ValueError, match=r"must tell of version 1\.1, got 1\.0"):
        package_metadata(metadata, required={}, optional={}, evaluation=None, data_source=None)


def _error(arguments: list[str], output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said; nothing may be written."""
    assert main([*arguments, "--output", str(output)]) == 1
    assert not output.exists()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_weights_of_another_bundle_are_refused(
    packed: Callable[[str], Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(_run_of(packed(RISK), RISK) / "model.pt", run / "model.pt")
    said = _error([VOXELS, "--run", str(run)], tmp_path / "dist", capsys)
    assert f"must be of the network in the config, got {run / 'model.pt'}" in said


def test_a_folder_without_weights_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _error([VOXELS, "--run", str(tmp_path)], tmp_path / "dist", capsys)
    assert f"--run must be a training with its model.pt, got {tmp_path}" in said


def test_a_bundle_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _error(["lung_mri"], tmp_path / "dist", capsys)
    assert "bundle must be one of lung_ct_cancer_risk" in said


def test_an_absolute_path_in_a_runs_settings_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run / "trained.yaml").open("a") as stream:
        stream.write(f"lungs_key: {tmp_path}/lungs\n")
    said = _error([VOXELS, "--run", str(run)], tmp_path / "dist", capsys)
    assert "evaluate.json::lungs_key: a package must hold no absolute path" in said


def test_data_other_than_phantoms_needs_a_licence_text(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    datalist = json.loads(Path(config["data_list"]).read_text())
    own = tmp_path / "hospital.json"
    own.write_text(json.dumps({**datalist, "synthetic": False}))
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "data_list": str(own)}))
    arguments = [VOXELS, "--run", str(run)]
    assert "need --data-license" in _error(arguments, tmp_path / "dist", capsys)

    text = tmp_path / "licence.txt"
    text.write_text("Scans of one hospital\n\nNot to be handed on.\n")
    package = pack_bundle(VOXELS, run, tmp_path / "dist", data_license=text)
    files = _files(package)
    assert files["data_license.txt"] == text.read_bytes()
    assert json.loads(files["configs/metadata.json"])["data_source"] == "Scans of one hospital"
    assert b"Trained on: Scans of one hospital." in files["docs/README.md"]


def test_large_weights_stay_out_of_the_zip(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "LARGE_BYTES", 1000)
    dist = tmp_path / "dist"
    assert "need --weights-url" in _error([VOXELS, "--run", str(run)], dist, capsys)

    metadata = json.loads((bundle_configs(VOXELS) / "metadata.json").read_text())
    beside = dist / f"{VOXELS}-{metadata['version']}-model.pt"
    package = pack_bundle(VOXELS, run, dist, weights_url=beside.as_uri())
    assert package.with_name(f"{package.stem}-model.pt").name == beside.name
    files = _files(package)
    assert "models/model.pt" not in files
    (entry,) = yaml.safe_load(files["large_files.yml"])["large_files"]
    assert entry == {
        "path": "models/model.pt",
        "url": beside.as_uri(),
        "hash_val": hashlib.sha256(beside.read_bytes()).hexdigest(),
        "hash_type": "sha256",
    }
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "there")
    root = tmp_path / "there" / VOXELS
    download_large_files(bundle_path=str(root))
    assert (root / "models/model.pt").read_bytes() == beside.read_bytes()
    assert unpack_package(package, tmp_path / "proven").is_dir()


def test_without_a_training_the_demos_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    def run(bundle: str, workflow: str, *, overlays: list[Any], overrides: dict[str, str]) -> None:
        done.append((bundle, workflow, [Path(overlay).stem for overlay in overlays]))
        Path(overrides["run_dir"]).mkdir(parents=True, exist_ok=True)
        (Path(overrides["run_dir"]) / "model.pt").touch()

    def make(settings: Any, folder: Path, *, workers: int) -> Path:
        done.append((settings, folder))
        return folder / "datalist.json"

    def write(bundle: str, run_dir: Path, output: Path, **_: Any) -> Path:
        done.append(run_dir)
        (tmp_path / "a.zip").write_bytes(b"zip")
        return tmp_path / "a.zip"

    monkeypatch.setattr("bundles.run_folders.runs_folder", lambda: tmp_path / "runs")
    monkeypatch.setattr("bundles.demo_run.runs_folder", lambda: tmp_path / "runs")
    monkeypatch.setattr("bundles.demo_run.run_bundle", run)
    monkeypatch.setattr("bundles.demo_run.make_cohort", make)
    monkeypatch.setattr(pack, "pack_bundle", write)
    assert main([VOXELS]) == 0
    (run_dir,) = (tmp_path / "runs" / VOXELS).iterdir()
    assert done == [
        (COHORT, tmp_path / "data/phantom-demo"),
        (VOXELS, "train", ["demo"]),
        (VOXELS, "evaluate", ["trained"]),
        run_dir,
    ]
    first, last = capsys.readouterr().out.splitlines()
    assert "not trained here yet" in first and "minutes" in first
    digest = hashlib.sha256(b"zip").hexdigest()
    assert last == f"packed: {tmp_path / 'a.zip'}, 3 bytes, sha256 {digest}"
    done.clear()
    assert main([VOXELS]) == 0 and done == [run_dir]


def test_a_zip_that_cannot_be_finished_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    write_zip(path, "a", {"one": b"1", "two": b"2"})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        write_zip(path, "a", {"one": b"other"})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_manifest_has_a_line_for_each_file() -> None:
    empty = hashlib.sha256(b"").hexdigest()
    one = hashlib.sha256(b"1").hexdigest()
    assert manifest({"b/c": b"1", "a": b""}) == f"{empty}  a\n{one}  b/c\n".encode()
    assert manifest({}) == b""


def test_make_pack_asks_for_a_bundle() -> None:
    done = subprocess.run(["make", "pack"], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "make pack needs BUNDLE" in done.stderr


def test_three_bundles_load_in_one_process(packed: Callable[[str], Path], tmp_path: Path) -> None:
    folder, other = tmp_path / "bundles", tmp_path / "other"
    roots = {bundle: unpack_package(packed(bundle), folder) for bundle in bundle_names()}
    changed = unpack_package(packed(VOXELS), other)
    digest = json.loads((changed / "shared_code.json").read_text())["digest"]
    for path in (*(changed / "configs").glob("*.json"), changed / "shared_code.json"):
        path.write_text(path.read_text().replace(digest, "f" * 64))
    script = LOAD_ALL.format(bundles=list(roots), folder=str(folder), one=VOXELS, other=str(other))
    done = subprocess.run(
        [bare_interpreter(tmp_path / "python"), "-c", script],
        cwd=tmp_path,
        env=bare_environment(),
        capture_output=True,
        text=True,
    )
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("> ")]
    assert lines == [
        [">", "lung_ct_cancer_risk", "RiskClassifier"],
        [">", "lung_ct_nodule_detection", "NoduleDetector"],
        [">", "lung_ct_nodule_segmentation", "UNet"],
        [">", "3"],  # folders of one package
    ]
    assert done.returncode == 1
    assert (
        "packed bundles in one process must share one version of their code, got version "
        f"{'f' * 12} after {digest[:12]} of {folder / bundle_names()[0]}"
    ) in done.stderr
