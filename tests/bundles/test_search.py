from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from bundles import search
from bundles.__main__ import main as bundles_main
from bundles.bundle_config import config_files, merged_config
from bundles.search_judge import SearchJudge, search_judge
from bundles.search_space import read_space, settings_of
from bundles.side_by_side import Job, StepEnded

BUNDLE = "lung_ct_cancer_risk"
SPACE = "learning_rate: {low: 1e-4, high: 1e-2, log: true}\nbatch_size: {choices: [1, 2]}\n"


class Programs:
    """Runs each training in this process; by its number, with another exit code in its place."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.codes: dict[int, int] = {}
        self.real = False

    def run_side_by_side(
        self,
        jobs: Sequence[Job],
        *,
        at_once: int,
        environment: Mapping[str, str],
        ended: StepEnded,
    ) -> None:
        (job,) = jobs
        command = list(job.steps["train"])
        self.commands.append(command[3:])
        with job.log.open("a") as log, redirect_stderr(log), redirect_stdout(log):
            print(f"\n$ {' '.join(command)}")
            code = self.codes.get(len(self.commands), 0)
            if code == 0:
                code = bundles_main(command[3:]) if self.real else self._pretend(job.log.parent)
            elif code == 130:
                raise KeyboardInterrupt
            else:
                print("error: loss must be finite, got nan")
        ended(job, "train", code, 60.0)

    def _pretend(self, folder: Path) -> int:
        """The value is the further from 0.001 the learning rate is."""
        given = dict(part.split("=", 1) for part in self.commands[-1] if "=" in part)
        loss = abs(float(given["learning_rate"]) - 0.001)
        rows = [
            {"epoch": 1, "validation": {"loss": loss + 1, "auroc": 0.9}},
            {"epoch": 2, "validation": {"loss": loss, "auroc": 0.5 + loss}},
            {"epoch": 3, "validation": {"loss": None, "auroc": 0.99}},
        ]
        (folder / "history.json").write_text(json.dumps(rows))
        torch.save({"trainer": {"iteration": 60, "epoch_length": 2}}, folder / "last.pt")
        return 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all tests: to make it takes longer than a test."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, store: str) -> Programs:
    fake = Programs()
    monkeypatch.setattr("bundles.search_trial.run_side_by_side", fake.run_side_by_side)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return fake


@pytest.fixture
def searched(datalist: Path, tmp_path: Path) -> Callable[..., int]:
    """The command with further options; the last of an option counts."""
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)

    def run(*options: str) -> int:
        command = [BUNDLE, "--datalist", str(datalist), "--space", str(space)]
        return search.main([*command, "--output", str(tmp_path / "out"), *options])

    return run


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def _runs(folder: Path) -> tuple[Run, list[Run]]:
    """A search's run in the store, and those that are nested in it."""
    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")
    parent = client.get_run(study.user_attrs["mlflow"]["run_id"])
    nested = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    trials = client.search_runs([parent.info.experiment_id], filter_string=nested)
    return parent, sorted(trials, key=lambda run: run.info.run_name or "")


def test_a_search_in_earnest_goes_on_and_its_runs_are_nested(
    programs: Programs,
    searched: Callable[..., int],
    datalist: Path,
    small_settings: list[str],
    tmp_path: Path,
) -> None:
    programs.real = True
    options = [*small_settings[:4], *small_settings[6:], "--set", "max_epochs=1"]
    assert searched(*options, "--trials", "2") == 0
    first = _rows(tmp_path / "out")
    assert searched(*options, "--trials", "3") == 0
    rows = _rows(tmp_path / "out")
    assert len(programs.commands) == 3 and rows[:2] == first
    assert [row["trial"] for row in rows] == ["trial-0000", "trial-0001", "trial-0002"]
    for row in rows:
        folder = tmp_path / "out" / row["trial"]
        (epoch,) = json.loads((folder / "history.json").read_text())
        assert float(row["loss"]) == epoch["validation"]["loss"]
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["learning_rate"] == float(row["learning_rate"])
        assert config["batch_size"] == int(row["batch_size"])

    best = min(rows, key=lambda row: float(row["loss"]))
    overlay = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert list(overlay) == ["learning_rate", "batch_size"]
    assert overlay["learning_rate"] == float(best["learning_rate"])
    merged = merged_config(config_files(BUNDLE, "train", [str(tmp_path / "out" / "best.yaml")]))
    assert merged["learning_rate"] == overlay["learning_rate"]
    assert (tmp_path / "out" / "history.png").stat().st_size > 5_000

    parent, trials = _runs(tmp_path / "out")
    assert [run.info.run_name for run in trials] == [f"out-trial-000{n}" for n in range(3)]
    assert "mlflow.parentRunId" not in parent.data.tags
    assert {run.info.status for run in [parent, *trials]} == {"FINISHED"}
    assert parent.data.metrics["best_loss"] == pytest.approx(float(best["loss"]))
    assert trials[0].data.metrics["val_loss"] == pytest.approx(float(rows[0]["loss"]))


def test_an_interrupted_search_draws_what_another_would_have(
    programs: Programs, searched: Callable[..., int], tmp_path: Path
) -> None:
    assert searched("--trials", "12") == 0
    programs.codes = {12 + 4: 130}
    again = ["--output", str(tmp_path / "again"), "--trials", "12"]
    assert searched(*again) == 130
    assert len(_rows(tmp_path / "again")) == 3
    killed, _ = _runs(tmp_path / "again")
    assert killed.info.status == "KILLED"
    assert searched(*again) == 0
    drawn = [
        [{**row, "seconds": ""} for row in _rows(tmp_path / name)] for name in ("out", "again")
    ]
    assert len(drawn[0]) == 12 and drawn[1] == drawn[0]
    assert len({row["learning_rate"] for row in drawn[0]}) == 12
    finished, _ = _runs(tmp_path / "again")
    assert (finished.info.run_id, finished.info.status) == (killed.info.run_id, "FINISHED")
    before = len(programs.commands)
    assert searched(*again) == 0 and len(programs.commands) == before


def test_a_failing_trial_does_not_end_the_search_and_a_killed_one_goes_on(
    programs: Programs,
    searched: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The first ends with an error, the second is killed once, the third as often as it may be.
    programs.codes = {1: 1, 2: -9, 4: -9, 5: -9}
    assert searched("--trials", "4") == 0
    assert len(programs.commands) == 6
    assert programs.commands[1] == programs.commands[2]
    failed, once_killed, killed, last = _rows(tmp_path / "out")
    assert failed["error"] == "loss must be finite, got nan" and failed["loss"] == ""
    assert once_killed["error"] == last["error"] == "" and float(once_killed["loss"]) >= 0
    assert killed["error"] == "it was ended by SIGKILL"
    assert "trial-0000  failed: loss must be finite" in capsys.readouterr().out

    programs.codes = dict.fromkeys(range(7, 10), 1)
    assert searched("--trials", "2", "--output", str(tmp_path / "none")) == 1
    assert "must have a trial with a value, got none: loss must" in capsys.readouterr().err
    assert not (tmp_path / "none" / "best.yaml").exists()


def test_what_was_begun_goes_on_from_its_checkpoint(
    programs: Programs, searched: Callable[..., int], tmp_path: Path
) -> None:
    programs.codes = {1: 130}
    assert searched("--trials", "1") == 130
    folder = tmp_path / "out" / "trial-0000"
    torch.save({"trainer": {"iteration": 2, "epoch_length": 2}}, folder / "last.pt")
    (folder / "history.json").write_text(
        '[{"epoch": 1, "validation": {"loss": 0.5, "auroc": 0.75}}]'
    )
    programs.codes = {2: 1}
    assert searched("--trials", "1") == 1
    assert programs.commands[1] == ["train", BUNDLE, "--resume", str(folder / "last.pt")]
    # All epochs are there, but the search was killed before it could note so.
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/out/study.db")
    trial = study.ask({name: d for name, d in study.trials[0].distributions.items()})
    whole = tmp_path / "out" / f"trial-{trial.number:04}"
    whole.mkdir()
    torch.save({"trainer": {"iteration": 60, "epoch_length": 2}}, whole / "last.pt")
    (whole / "history.json").write_text((folder / "history.json").read_text())
    assert searched("--trials", "2") == 0
    assert len(programs.commands) == 2 and _rows(tmp_path / "out")[1]["loss"] == "0.5"


def test_another_metric_judges_at_the_epoch_of_the_weights(
    programs: Programs, searched: Callable[..., int], tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(SPACE + "lambda_box: {low: 0, high: 1}\n")
    assert searched("--trials", "2", "--maximize", "auroc") == 0
    for row in _rows(tmp_path / "out"):
        loss = abs(float(row["learning_rate"]) - 0.001)
        assert float(row["auroc"]) == pytest.approx(0.5 + loss) and row["epoch"] == "2"
        assert 0 < float(row["lambda_box"]) < 1
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert best["learning_rate"] == max(
        (float(row["learning_rate"]) for row in _rows(tmp_path / "out")),
        key=lambda rate: abs(rate - 0.001),
    )


@pytest.mark.parametrize(
    ("bundle", "judge"),
    [
        ("lung_ct_cancer_risk", ("loss", True)),
        ("lung_ct_nodule_detection", ("cpm", False)),
        ("lung_ct_nodule_segmentation", ("dice", False)),
    ],
)
def test_the_key_metric_of_each_bundle(bundle: str, judge: tuple[str, bool]) -> None:
    found = search_judge(merged_config(config_files(bundle, "train", [])))
    assert (found.metric, found.minimize) == judge == (found.key_metric, found.key_minimize)


def test_a_training_without_a_value_has_no_best_epoch(tmp_path: Path) -> None:
    judge = SearchJudge(metric="dice", minimize=False, key_metric="dice", key_minimize=False)
    history = tmp_path / "history.json"
    assert judge.best_epoch(history) is None
    history.write_text('[{"epoch": 1}, {"epoch": 2, "validation": {"dice": null}}]')
    assert judge.best_epoch(history) is None
    history.write_text(
        '[{"epoch": 2, "validation": {"dice": 0.5}}, {"epoch": 4, "validation": {"dice": 0.5}}]'
    )
    assert judge.best_epoch(history) == (2, 0.5)


def test_draws_are_of_the_kind_that_the_config_has(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "max_epochs: {low: 2, high: 8}\nlambda_box: {low: 0, high: 1, step: 0.25}\n"
        "network_def::channels: {choices: [[4, 8], [8, 16]]}\nlearning_rate: {choices: [1e-3]}\n"
        "years: {choices: [null, 6]}\nnetwork_def::pooling: {choices: [attention, max]}\n"
        "spacing_mm::0: {low: 1.0, high: 2}\n"
    )
    drawn = read_space(space, merged_config(config_files(BUNDLE, "train", [])))
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(dict(drawn))
    settings: dict[str, Any] = settings_of(trial.params)
    assert isinstance(settings["max_epochs"], int) and 2 <= settings["max_epochs"] <= 8
    assert settings["lambda_box"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert isinstance(settings["lambda_box"], float)
    assert settings["network_def::channels"] in ([4, 8], [8, 16])
    assert settings["learning_rate"] == 0.001 and settings["years"] in (None, 6)
    assert settings["network_def::pooling"] in ("attention", "max")


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ("learning_rat: {low: 1, high: 2}", "got learning_rat; did you mean learning_rate?"),
        ("learning_rate: {low: 1, hihg: 2}", "must have low and high, with log or step where"),
        ("learning_rate: {low: 1, high: 2, log: true, step: 1}", "must have low and high"),
        ("learning_rate: 0.1", "or choices, got 0.1"),
        ("learning_rate: {low: 0.1, high: 0.1}", "must be below high, got 0.1 and 0.1"),
        ("learning_rate: {low: 0, high: 1, log: true}", "must be above 0 with log, got 0"),
        ("learning_rate: {low: 0, high: 1, step: 2}", "at most high - low, got 2"),
        ("learning_rate: {low: x, high: 1}", "low of learning_rate must be a number, got 'x'"),
        ("learning_rate: {choices: [fast]}", "learning_rate must be a number as 0.001 is"),
        ("batch_size: {choices: []}", "must be a list of one value or more, got []"),
        ("batch_size: {choices: [2, 2]}", "choices of batch_size must differ, got [2, 2]"),
        ("spacing_mm: {low: 1, high: 2}", "spacing_mm must be varied by choices"),
        ("run_dir: {choices: [a]}", "must not vary run_dir, which each trial has of its own"),
        ("lambda_box: {low: 0, high: 1}", "lambda_box must not be varied where trials are judged"),
        ("loss::lambda_box: {choices: [0, 1]}", "judged by loss, of which it is a part"),
        ("max_epochs: {low: 1, high: 2}", "must be either varied or set, got it in --space"),
        ("[1, 2]", "must name the settings to vary, got [1, 2]"),
        ("", "must name the settings to vary, got None"),
        ("a: [", "must be YAML"),
    ],
)
def test_a_space_that_breaks_a_rule_is_one_sentence(
    programs: Programs,
    searched: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    space: str,
    sentence: str,
) -> None:
    (tmp_path / "space.yaml").write_text(space)
    assert searched("--trials", "1", "--set", "max_epochs=1") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert programs.commands == [] and not (tmp_path / "out" / "study.db").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trials", "0"], "--trials must be above 0, got 0"),
        (["--timeout", "0"], "--timeout must be above 0, got 0"),
        (["--set", "run_name=a"], "--set must not name run_name"),
        (["--set", "max_epoch=3"], "did you mean max_epochs?"),
        (["--datalist", "nowhere.json"], "nowhere.json"),
        (["--space", "nowhere.yaml"], "nowhere.yaml"),
        (["--overlay", "no_such"], "overlay must be a file of"),
        (["--maximize", "loss"], "loss must be minimized, as the bundle's validation does"),
    ],
)
def test_a_command_that_breaks_a_rule_is_one_sentence(
    programs: Programs,
    searched: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    *,
    options: list[str],
    sentence: str,
) -> None:
    assert searched("--trials", "1", *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert programs.commands == []


def test_a_folder_holds_one_search(
    programs: Programs,
    searched: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert searched("--trials", "1") == 0
    assert searched("--trials", "1", "--set", "max_epochs=3") == 1
    assert "got config::max_epochs 30 where 3 is asked for; name" in capsys.readouterr().err
    (tmp_path / "space.yaml").write_text(SPACE.replace("1e-2", "1e-1"))
    assert searched("--trials", "1") == 1
    assert "space::learning_rate" in capsys.readouterr().err


def test_a_training_that_a_killed_search_left_behind_is_waited_for(
    programs: Programs,
    searched: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs.codes = {1: 130}
    assert searched("--trials", "1") == 130
    run_dir = f"run_dir={tmp_path / 'out' / 'trial-0000'}"
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)", "--set", run_dir]
    with subprocess.Popen(sleeping) as left_behind:
        assert searched("--trials", "1") == 1
        left_behind.kill()
    assert f"process {left_behind.pid} of an earlier search" in capsys.readouterr().err
    assert searched("--trials", "1") == 0


def test_no_trial_begins_once_the_time_is_over(
    programs: Programs, searched: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert searched("--trials", "5", "--timeout", "1e-9") == 1
    assert "there was no time for any" in capsys.readouterr().err and not programs.commands


def test_without_optuna_one_sentence_says_how_to_get_it(
    searched: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda _name: None)
    assert searched("--trials", "1") == 1
    assert capsys.readouterr().err == (
        "error: a search needs Optuna, got none: pip install -e '.[search]'\n"
    )
