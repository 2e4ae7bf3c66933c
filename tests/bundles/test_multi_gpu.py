"""Training and evaluation by several processes, here two on CPUs, against one process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml

from bundles.__main__ import main

BUNDLES = {
    "lung_ct_cancer_risk": "small_settings",
    "lung_ct_nodule_detection": "detector_settings",
    "lung_ct_nodule_segmentation": "segmenter_settings",
}
RISK, DETECTION, SEGMENTATION = BUNDLES
# What the processes of torchrun see of Slurm, which started torchrun once.
IN_A_SLURM_JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_JOB_NUM_NODES": "2",
}


def _rank(rank: int, environment: dict[str, str], log: str, arguments: list[str]) -> None:
    """As torchrun starts a process, but that it ends alone."""
    descriptor = os.open(f"{log}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    sys.exit(main(arguments))


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One tracking store, which takes seconds to make; each test has an experiment of its own."""
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture
def ranks(
    at_once: Callable[..., list[int | None]], tmp_path: Path, store: str
) -> Callable[..., tuple[list[int | None], list[str]]]:
    """Runs a command of ``python -m bundles`` as several ranks; exit codes and what they said."""

    def run(arguments: list[str], count: int = 2) -> tuple[list[int | None], list[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "MLFLOW_TRACKING_URI": store,
            **IN_A_SLURM_JOB,
        }
        log = str(tmp_path / "log")
        codes = at_once(_rank, [(rank, environment, log, arguments) for rank in range(count)])
        return codes, [Path(f"{log}-{rank}.txt").read_text() for rank in range(count)]

    return run


@pytest.fixture(scope="module")
def uneven(datalist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans to train on and three to validate on."""
    content = json.loads(datalist.read_text())
    scans = [item for split in ("training", "validation", "testing") for item in content[split]]
    for item in scans:
        item |= {key: str(datalist.parent / item[key]) for key in ("image", "mask", "lungs")}
    content |= {"training": scans[:4], "validation": scans[4:7], "testing": scans[7:]}
    path = tmp_path_factory.mktemp("uneven") / "datalist.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def fixed(tmp_path: Path) -> Callable[[str], list[str]]:
    """Settings under which chance has no part in a training but for the network's first weights.

    Not by Adam, which makes whole steps of gradients that are rounding errors.
    """

    def write(bundle: str) -> list[str]:
        keys = ["image", "mask"] if bundle == SEGMENTATION else ["image"]
        crop = {"_target_": "ResizeWithPadOrCropd", "keys": keys, "spatial_size": "@patch_shape"}
        descent = {
            "_target_": "torch.optim.SGD",
            "params": "$@network.parameters()",
            "lr": "@learning_rate",
        }
        augment = [] if bundle == RISK else [crop]
        overlay = tmp_path / "fixed.yaml"
        overlay.write_text(yaml.safe_dump({"train::augment": augment, "train::optimizer": descent}))
        lasting = ["learning_rate=0.02", "max_epochs=2", "val_interval=1"]
        shape = "[48, 40, 48]"  # the most of the lungs
        if bundle == RISK:
            lasting += ["warmup_epochs=0", f"crop_shape={shape}"]
        else:
            lasting += ["patches_per_scan=1", f"patch_shape={shape}"]
        return ["--overlay", str(overlay), *_set(*lasting)]

    return write


def _set(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _history(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "history.json").read_text())


@pytest.mark.parametrize("bundle", BUNDLES)
def test_two_ranks_train_and_evaluate_as_one_process_with_their_batches_together(
    bundle: str,
    ranks: Callable[..., Any],
    fixed: Callable[[str], list[str]],
    uneven: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    settings = [*request.getfixturevalue(BUNDLES[bundle]), *fixed(bundle)]
    settings += _set(f"experiment={bundle} alike")
    train = ["train", bundle, "--datalist", str(uneven), *settings]

    def into(run: str, batch_size: int) -> list[str]:
        return [*train, *_set(f"run_dir={tmp_path / run}", f"batch_size={batch_size}")]

    codes, said = ranks(into("two", 2))
    assert codes == [0, 0], said
    assert "epoch 2 of 2" in said[0]
    assert "epoch 2 of 2" not in said[1]
    assert main(into("one", 4)) == 0
    tracked = mlflow.search_runs(experiment_names=[f"{bundle} alike"])
    assert sorted(tracked["params.ranks"]) == ["1", "2"]
    assert set(tracked["status"]) == {"FINISHED"}
    # Before the first step only the order of the sums differs. The steps make more of that; in
    # double precision they are the same to the last digits (tests/networks/test_data_parallel.py).
    tolerance = {1: 2e-4, 2: 2e-3}
    for one, two in zip(_history(tmp_path / "one"), _history(tmp_path / "two"), strict=True):
        assert one["epoch"] == two["epoch"]
        expected = pytest.approx(one["training"], rel=tolerance[one["epoch"]], abs=1e-7)
        assert two["training"] == expected

    # Three scans: one rank has two of them, the other a single one.
    evaluate = ["evaluate", bundle, "--datalist", str(uneven), "--run", str(tmp_path / "two")]
    evaluate += _set("split=validation")
    codes, said = ranks([*evaluate, *_set(f"output_dir={tmp_path / 'by two'}")])
    assert codes == [0, 0], said
    assert main([*evaluate, *_set(f"output_dir={tmp_path / 'by one'}")]) == 0
    for file in (tmp_path / "by one").iterdir():
        assert file.read_bytes() == (tmp_path / "by two" / file.name).read_bytes(), file.name
    rows = (tmp_path / "by two" / "per_scan.csv").read_text().splitlines()
    assert len(rows) == 1 + 3


def test_a_scan_that_one_rank_cannot_read_fails_the_evaluation_and_is_listed(
    trained: Path, ranks: Callable[..., Any], uneven: Path, tmp_path: Path
) -> None:
    content = json.loads(uneven.read_text())
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no scan")
    content["validation"][1]["image"] = str(broken)
    content["validation"] = content["validation"][:2]  # all that the second rank has
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps(content))
    (run,) = (trained / "runs" / RISK).iterdir()
    output = tmp_path / "evaluation"
    settings = _set("split=validation", f"output_dir={output}")
    codes, said = ranks(
        ["evaluate", RISK, "--datalist", str(datalist), "--run", str(run), *settings]
    )
    assert codes[0] == 1
    assert "1 of 2 scans failed" in said[0]
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert [failure["scan"] for failure in evaluation["failed"]] == [str(broken)]
    assert len((output / "per_scan.csv").read_text().splitlines()) == 1 + 1


def test_more_ranks_than_scans_are_refused(
    trained: Path, ranks: Callable[..., Any], uneven: Path, tmp_path: Path
) -> None:
    (run,) = (trained / "runs" / RISK).iterdir()
    codes, said = ranks(["evaluate", RISK, "--datalist", str(uneven), "--run", str(run)])
    assert codes == [1, 1]
    for sentence in said:
        assert "there must be a scan for each rank, got 1 scans for 2 ranks" in sentence


def test_a_port_in_use_is_named(at_once: Callable[..., list[int | None]], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        log = str(tmp_path / "log")
        assert at_once(_rank, [(0, place, log, ["train", RISK])]) == [1]
    said = Path(f"{log}-0.txt").read_text()
    assert f"error: the ranks must be able to meet at the free port 127.0.0.1:{port}" in said


def test_ranks_stop_early_together(
    ranks: Callable[..., Any], uneven: Path, segmenter_settings: list[str], tmp_path: Path
) -> None:
    # Weights that stay as they are get no better after the first epoch.
    settings = _set("learning_rate=0", "max_epochs=9", "patience=1", f"run_dir={tmp_path / 'run'}")
    codes, said = ranks(
        ["train", SEGMENTATION, "--datalist", str(uneven), *segmenter_settings, *settings]
    )
    assert codes == [0, 0], said
    assert "early stop after epoch" in said[0]
    assert 1 < len(_history(tmp_path / "run")) < 9


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the processes of torchrun")
def test_a_killed_rank_ends_the_job_which_can_be_resumed(
    ranks: Callable[..., Any], uneven: Path, small_settings: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    settings = _set("max_epochs=500", f"run_dir={run}", "batch_size=1", "experiment=killed")
    train = ["train", RISK, "--datalist", str(uneven), *small_settings, *settings]
    with (tmp_path / "said.txt").open("w") as said:
        job = subprocess.Popen([*launcher, "-m", "bundles", *train], stdout=said, stderr=said)
        try:
            _wait_for(run / "last.pt")
            workers = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
            os.kill(int(workers[-1]), signal.SIGKILL)
            assert job.wait(60) == 1
        finally:
            job.kill()
    text = (tmp_path / "said.txt").read_text()
    assert "Signal 9 (SIGKILL)" in text
    (tracked,) = mlflow.search_runs(experiment_names=["killed"], output_format="list")
    assert tracked.info.status in ("FAILED", "KILLED")

    epochs = torch.load(run / "last.pt", weights_only=True)["trainer"]["iteration"] // 2
    resume = ["train", RISK, "--resume", str(run / "last.pt")]
    codes, all_said = ranks([*resume, *_set(f"max_epochs={epochs + 2}")])
    assert codes == [0, 0], all_said
    assert _history(run)[-1]["epoch"] == epochs + 2


def _wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.2)
    pytest.fail(f"{file} must be written within two minutes")
