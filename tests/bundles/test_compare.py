from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from bundles.__main__ import main
from bundles.side_by_side import Job, StepEnded
from handlers.describe_checkpoint import describe_checkpoint

BUNDLE = "lung_ct_cancer_risk"
COLUMNS = "patient_id risk predicted_risk attention_mass chance hit peak_distance_mm side side_hit"
MEASURES = {"auroc", "attention_mass", "attention_mass_over_chance", "hit_rate"}


class FakePrograms:
    """Runs each command in this process, with all of it real but the work of MONAI's engines."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.environment: Mapping[str, str] = {}
        self.failing: set[str] = set()
        self.epochs: dict[str, int] = {}

    def run_side_by_side(
        self,
        jobs: Sequence[Job],
        *,
        at_once: int,
        environment: Mapping[str, str],
        ended: StepEnded,
    ) -> None:
        self.environment = environment
        for job in jobs:
            for step, command in job.steps.items():
                self.commands.append((job.name, *command[3:5]))
                with job.log.open("a") as log, redirect_stderr(log), redirect_stdout(log):
                    print(f"\n$ {' '.join(command)}")
                    code = main(list(command[3:]))
                ended(job, step, code, 60.0)
                if code:
                    break

    def run(self, _bundle: str, files: Sequence[Path], overrides: Mapping[str, Any]) -> None:
        """In place of `bundles.run_bundle._run`."""
        names = {file.name for file in files}
        if "evaluate.yaml" in names:
            self._evaluate(Path(overrides["run_dir"]))
            return
        run_dir = Path(overrides.get("run_dir") or Path(overrides["resume"]).parent)
        config = yaml.safe_load((run_dir / "config.yaml").read_text())
        epochs = self.epochs.get(run_dir.name, config["max_epochs"])
        torch.save({"trainer": {"iteration": 2 * epochs, "epoch_length": 2}}, run_dir / "last.pt")
        (run_dir / "model.pt").write_bytes(run_dir.name.encode())
        if run_dir.name in self.failing:
            raise ValueError(f"loss must be finite, got nan in {run_dir.name}")

    def _evaluate(self, run_dir: Path) -> None:
        (run_dir / "evaluation").mkdir(exist_ok=True)
        report: dict[str, Any] = {
            "checkpoint": describe_checkpoint(run_dir / "model.pt"),
            "failed": [],
        }
        (run_dir / "evaluation" / "evaluation.json").write_text(json.dumps(report))
        config = yaml.safe_load((run_dir / "config.yaml").read_text())
        gain = 0.5 if config["lambda_box"] else 0.1 * config["seed"]
        with (run_dir / "evaluation" / "per_scan.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(COLUMNS.split())
            for scan in range(20):
                ill = scan % 2
                found = [gain, 0.01, 1, 0, "left", 1] if ill else ["", "", "", "", "none", ""]
                table.writerow([f"p{scan}", ill, 0.5 + gain * ill, *found])


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    fake = FakePrograms()
    monkeypatch.setattr("bundles.train_runs.run_side_by_side", fake.run_side_by_side)
    monkeypatch.setattr("bundles.run_bundle._run", fake.run)
    return fake


@pytest.fixture
def compared(datalist: Path, tmp_path: Path) -> Callable[..., int]:
    """The command on two arms, with further options."""

    def run(*options: str, arms: Sequence[str] = ("no_attention", "box")) -> int:
        command = ["compare", BUNDLE, "--datalist", str(datalist), "--output", str(tmp_path)]
        return main([*command, "--overlay", "demo", "--arms", *arms, *options])

    return run


def _content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text())


@pytest.mark.parametrize("change", ["failed scan", "other weights"])
def test_an_evaluation_that_does_not_count_is_made_again(
    programs: FakePrograms, compared: Callable[..., int], tmp_path: Path, change: str
) -> None:
    assert compared("--seeds", "1") == 0
    programs.commands.clear()
    run_dir = tmp_path / "box-seed0"
    if change == "failed scan":
        report = run_dir / "evaluation" / "evaluation.json"
        content = {**json.loads(report.read_text()), "failed": [{"scan": "a", "error": "b"}]}
        report.write_text(json.dumps(content))
    else:
        (run_dir / "model.pt").write_bytes(b"others")
    assert compared("--seeds", "1") == 0
    assert programs.commands == [("box-seed0", "evaluate", BUNDLE)]


def _settings(run_dir: Path, *names: str) -> list[Any]:
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    return [config[name] for name in names]


def test_every_arm_is_trained_with_every_seed_and_judged(
    programs: FakePrograms, compared: Callable[..., int], tmp_path: Path
) -> None:
    options = ["--seeds", "2", "--jobs", "2", "--set", "learning_rate=1e-5", "--set", "device=cpu"]
    assert compared(*options) == 0
    runs = ["no_attention-seed0", "box-seed0", "no_attention-seed1", "box-seed1"]
    steps = ("train", "evaluate")
    assert programs.commands == [(run, step, BUNDLE) for run in runs for step in steps]
    names = ("run_name", "seed", "lambda_box", "max_epochs", "learning_rate")
    assert _settings(tmp_path / "box-seed1", *names) == ["box-seed1", 1, 0.5, 12, 1e-5]
    assert _settings(tmp_path / "no_attention-seed0", "seed", "lambda_box") == [0, 0]
    assert int(programs.environment["OMP_NUM_THREADS"]) == max(1, torch.get_num_threads() // 2)

    content = _content(tmp_path)
    assert content["arms"]["box"] == {"overlays": ["demo", "box"], "settings": {"lambda_box": 0.5}}
    assert content["datalist"]["synthetic"] is True and len(content["datalist"]["sha256"]) == 64
    assert content["settings"] == {"learning_rate": 1e-5, "device": "cpu"}
    assert [run["training_seconds"] for run in content["runs"]] == [60.0] * 4
    mass = content["measures"]["attention_mass"]["arms"]
    assert mass["no_attention"]["seed_values"] == pytest.approx([0.0, 0.1])
    assert mass["box"]["difference"] == pytest.approx(0.45)
    page = (tmp_path / "comparison.md").read_text()
    assert "python -m bundles compare lung_ct_cancer_risk --datalist" in page
    assert "| box | +0.250 [+0.250, +0.250] | +0.450 [+0.450, +0.450] |" in page
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


def test_what_is_finished_is_kept_and_what_was_interrupted_goes_on(
    programs: FakePrograms, compared: Callable[..., int], tmp_path: Path
) -> None:
    programs.epochs = {"box-seed0": 5}
    assert compared("--seeds", "1") == 0
    # As if Ctrl-C had come then.
    record = tmp_path / "box-seed0" / "comparison_run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "trained": False}))
    programs.commands, programs.epochs = [], {}
    assert compared("--seeds", "1") == 0
    assert programs.commands == [("box-seed0", step, BUNDLE) for step in ("train", "evaluate")]
    assert "--resume" in (tmp_path / "box-seed0" / "log.txt").read_text().splitlines()[-4]
    box = _content(tmp_path)["runs"][1]
    assert (box["training_seconds"], box["parts"]) == (120.0, 2)

    # All its epochs, but this program was ended before it could note so; then no evaluation.
    record.write_text(json.dumps({**json.loads(record.read_text()), "trained": False}))
    shutil.rmtree(tmp_path / "box-seed0" / "evaluation")
    (tmp_path / "no_attention-seed0" / "last.pt").unlink()
    programs.commands = []
    assert compared("--seeds", "2") == 0
    assert [command[:2] for command in programs.commands] == [
        ("box-seed0", "evaluate"),
        ("no_attention-seed1", "train"),
        ("no_attention-seed1", "evaluate"),
        ("box-seed1", "train"),
        ("box-seed1", "evaluate"),
    ]


def test_other_settings_or_scans_never_overwrite_a_training(
    programs: FakePrograms,
    compared: Callable[..., int],
    datalist: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compared("--seeds", "1") == 0
    programs.commands = []
    assert compared("--seeds", "1", "--set", "learning_rate=0.1") == 1
    assert "got learning_rate 0.003 where 0.1 is asked for; name another" in capsys.readouterr().err
    other = json.loads(datalist.read_text())
    other["training"].pop()
    path = datalist.with_name("fewer.json")
    path.write_text(json.dumps(other))
    assert compared("--seeds", "1", "--datalist", str(path)) == 1
    assert "must be of this datalist, got another" in capsys.readouterr().err
    assert programs.commands == []
    # The same scans under another name are the same.
    shutil.copy(datalist, path)
    assert compared("--seeds", "1", "--datalist", str(path)) == 0
    assert programs.commands == []


def test_a_failing_run_is_one_sentence_and_the_others_go_on(
    programs: FakePrograms,
    compared: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs.failing = {"box-seed1"}
    with pytest.raises(SystemExit) as ended:
        compared("--seeds", "2")
    assert ended.value.code == "1 of 4 runs failed: box-seed1"
    log = tmp_path / "box-seed1" / "log.txt"
    sentence = f"box-seed1 failed: loss must be finite, got nan in box-seed1 (see {log})"
    assert sentence in capsys.readouterr().out
    content = _content(tmp_path)
    assert [failure["run"] for failure in content["failed"]] == ["box-seed1"]
    assert content["measures"]["auroc"]["arms"]["box"]["seed_values"] == [1.0]
    assert sentence in (tmp_path / "comparison.md").read_text()

    programs.failing = {"no_attention-seed0"}
    with pytest.raises(SystemExit, match="the reference no_attention has failed"):
        compared("--seeds", "1", "--output", str(tmp_path / "second"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seeds", "0"], "seeds must be 1 or more, got 0"),
        (["--jobs", "0"], "jobs must be 1 or more, got 0"),
        (["--set", "seed=3"], "--set must not name seed, which each run has of its own"),
        (["--set", "max_epoch=3"], "did you mean max_epochs?"),
        (["--datalist", "nowhere.json"], "nowhere.json"),
        (["--overlay", "no_such"], "overlay must be a file of"),
        (["--arms", "boxes"], "an arm must be one of no_attention"),
    ],
)
def test_a_broken_rule_is_one_sentence_before_anything_is_trained(
    programs: FakePrograms,
    compared: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    assert compared(*options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert programs.commands == [] and not list(tmp_path.glob("*-seed*"))


def test_two_arms_are_trained_in_earnest(
    datalist: Path,
    small_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    command = ["compare", BUNDLE, "--datalist", str(datalist), "--seeds", "1", "--jobs", "2"]
    command += ["--arms", "no_attention", "box", "--output", str(tmp_path / "out")]
    assert main([*command, *small_settings, "--set", "max_epochs=1"]) == 0
    content = _content(tmp_path / "out")
    assert all(run["training_seconds"] > 1 for run in content["runs"])
    for arm in ("no_attention", "box"):
        report = tmp_path / "out" / f"{arm}-seed0" / "evaluation" / "evaluation.json"
        metrics = json.loads(report.read_text())["metrics"]
        for name in MEASURES:
            measured = content["measures"][name]["arms"][arm]["value"]
            assert measured == pytest.approx(metrics[name], rel=1e-5), name
    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(BUNDLE)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name or "" for run in runs) == ["box-seed0", "no_attention-seed0"]
