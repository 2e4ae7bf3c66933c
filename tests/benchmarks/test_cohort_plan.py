from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from benchmarks.cohort_cost import Place, Setting, cache, convert, cost, phantom, predict, tasks
from benchmarks.cohort_plan import Step, main, plan, read_steps, table
from benchmarks.dicom_slices import write_slices
from cohorts.dicom_scan import read_dicom_scan


def test_a_plan_by_hand() -> None:
    """10 scans of 36 s on 4 cores: 3 on the busiest; each shard looks up 10 for 3.6 s."""
    step = Step("convert", 36, 1, 500)
    found = plan(step, scans=10, cores=4, find_s=3.6)
    assert found.core_hours == pytest.approx((360 + 4 * 36) / 3600)
    assert found.hours == pytest.approx((3 * 36 + 36) / 3600)
    assert found.disk_gb == 5
    assert plan(step, scans=10, cores=1, find_s=0).hours == pytest.approx(0.1)
    # More cores than scans stay idle.
    idle = plan(step, scans=10, cores=40, find_s=3.6)
    assert (idle.core_hours, idle.hours) == pytest.approx((0.2, 0.02))


def test_a_table_has_a_cost_where_there_is_a_price() -> None:
    plans = [plan(Step("predict", 3600, 2.5, 1), scans=100, cores=10, find_s=0)]
    assert table(plans, None).splitlines()[2] == "| predict | 3600.0 | 100 | 10.0 | 2.5 | 0 |"
    assert (
        table(plans, 0.05).splitlines()[2] == "| predict | 3600.0 | 100 | 10.0 | 2.5 | 0 | 5.00 |"
    )


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    values = {"find": 0.01, "convert": 4.0, "cache a": 8.0}
    ends = {"CPU time": 1, "wall time": 2, "peak memory": 0.5, "written": 10}
    rows = [
        {"what": f"{step}: {end}", "ours": value * factor}
        for step, value in values.items()
        for end, factor in ends.items()
    ]
    (tmp_path / "measured.json").write_text(json.dumps({"rows": rows}))
    return tmp_path / "measured.json"


def test_the_command(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_steps(measured) == ([Step("convert", 4, 2, 40), Step("cache a", 8, 4, 80)], 0.01)
    options = ["--measured", str(measured), "--scans", "9000", "--cores", "10"]
    assert main([*options, "--price-per-core-hour", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "9000 scans, 10 shards of one core each"
    # 9000 * 4 s = 10 h, and 10 * 9000 * 0.01 s = 0.25 h.
    assert lines[4] == "| convert | 4.0 | 10 | 1.0 | 2.0 | 360 | 20.50 |"
    assert lines[5] == "| cache a | 8.0 | 20 | 2.0 | 4.0 | 720 | 40.00 |"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scans", "0"], "scans must be 1 or more, got 0"),
        (["--cores", "0"], "cores must be 1 or more, got 0"),
        (["--price-per-core-hour", "-1"], "must be 0 or more, got -1.0"),
        (["--measured", "none.json"], "none.json: must be what python -m benchmarks.cohort_cost"),
    ],
)
def test_wrong_values_are_one_sentence(
    options: list[str], message: str, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--measured", str(measured), *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_slices_are_read_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hu = torch.from_numpy(rng.integers(-1000, 500, (1, 7, 5, 4)).astype(np.float32))
    affine = np.diag([-0.7, -0.8, 1.5, 1])
    affine[:3, 3] = -3, 4, 10.25
    scan = read_dicom_scan(write_slices(MetaTensor(hu, torch.as_tensor(affine)), tmp_path / "s"))
    np.testing.assert_array_equal(scan.hu, hu[0])
    np.testing.assert_allclose(scan.affine, affine, atol=1e-5)
    with pytest.raises(ValueError, match="axes must run to the left, back and head"):
        write_slices(MetaTensor(hu, torch.as_tensor(np.diag([-1.0, 1, 1, 1]))), tmp_path / "t")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return phantom(tmp_path_factory.mktemp("cost"), (48, 48, 32))


def test_every_step_is_measured(place: Place) -> None:
    threads = torch.get_num_threads()
    settings: dict[Callable[..., None], tuple[Setting, ...]] = {
        convert: (),
        predict: (Setting("lung_ct_cancer_risk"),),
        cache: (Setting("lung_ct_nodule_detection", ("two_cores", "patch_cache")),),
    }
    try:
        for task, given in settings.items():
            folders = (place.output / task.__name__ / size for size in ("small", "large"))
            small, large = (place._replace(output=folder) for folder in folders)
            found = cost(task, small, large, *given)
            assert found.cpu_s > 0 and found.wall_s > 0 and found.peak_gib > 0.1
            written = [path for path in large.output.rglob("*") if path.is_file()]
            assert found.written_mb * 1e6 == sum(path.stat().st_size for path in written) > 0
    finally:
        torch.set_num_threads(threads)


def test_every_bundle_is_cached_and_predicts_in_every_size() -> None:
    names = [what for what, _, _ in tasks()]
    assert names[:2] == ["find", "convert"] and len(set(names)) == len(names) == 12
    assert "cache lung_ct_cancer_risk disk_cache" in names
    assert "cache lung_ct_nodule_segmentation two_cores patch_cache" in names
    assert "predict lung_ct_nodule_detection two_cores" in names
