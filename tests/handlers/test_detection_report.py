from __future__ import annotations

import errno
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers.inferer import Inferer
from monai.transforms import Compose, CopyItemsd, DivisiblePadd, Orientationd
from torch import nn

import handlers.detection_report
from cohorts import ReadableScans, scan_items
from handlers import DetectionReport, PrepareTargets, ScanWriter
from metrics.froc import froc_report
from transforms import LoadScand

SHAPE = (32, 28, 21)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, 2, 0, -30], [0, 0, 2.5, -40], [0, 0, 0, 1]])
BOX = [8.0, 10, 4, 12, 14, 8]
HEADER = "seriesuid,coordX,coordY,coordZ,probability"


class Finds(Inferer):
    """Gives boxes and scores whatever the scan, on the grid of the network's input."""

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        super().__init__()
        rank = len(boxes[0]) // 2 if boxes else 3
        self.boxes = torch.tensor(boxes).reshape(-1, 2 * rank)
        self.scores = torch.tensor(scores)

    def __call__(self, inputs, network, *args, **kwargs):
        return {"boxes": [self.boxes], "scores": [self.scores]}


READ = Compose(
    [
        LoadScand(keys="image"),
        CopyItemsd(keys="image", names=["scan"]),
        Orientationd(keys="image", axcodes="RAS", labels=None),
        DivisiblePadd(keys="image", k=8, method="end"),
    ]
)


def _write_scan(path: Path, shape: tuple[int, ...] = SHAPE) -> None:
    array = np.full(shape, -1000, np.int16)
    array[:, :4] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


def _run(scans, output_dir: Path, finds: Finds, *, transform=READ, min_score=0.5, **settings):
    dataset = ReadableScans(scan_items(scans), transform)
    report = DetectionReport(min_score=min_score, **settings)
    writer = ScanWriter(output_dir, dataset, bundle="lung_ct_nodule_detection", report=report)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0),
        network=nn.Identity(),
        inferer=finds,
        prepare_batch=PrepareTargets([], with_attention=False),
        iteration_update=writer.predict,
        val_handlers=[writer],
        decollate=False,
    )
    evaluator.run()
    return writer


def _json(path: Path) -> dict:
    return json.loads(path.read_text())


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_of_a_scan(tmp_path):
    scan, out = tmp_path / "ct.nii.gz", tmp_path / "out"
    _write_scan(scan)
    _run(scan, out, Finds([BOX, [0.0, 0, 0, 2, 2, 2]], [0.875, 0.25])).finish()
    written = ["ct_finding_01.png", "ct_findings.json", "findings.csv", "predictions.json"]
    assert _files(out) == written
    predictions = _json(out / "predictions.json")
    assert (predictions["frame"], predictions["min_score"]) == ("LPS", 0.5)
    (entry,) = predictions["scans"]
    assert entry["scan"] == str(scan)
    assert entry["summary"] == "1 finding with a score of 0.5 or more"
    (finding,) = entry["findings"]
    # RAS voxel 0 is the scan's last, at x = 20 - 1.5 * 31 = -26.5; edge e is at e - 0.5.
    assert finding == {
        "number": 1,
        "score": 0.875,
        "centre_lps_mm": [12.25, 7, -26.25],
        "centre_ras_mm": [-12.25, -7, -26.25],
        "size_mm": [6, 8, 10],
        "diameter_mm": 8,
        "box_ras_mm": [-12.25, -7, -26.25, 6, 8, 10],
        "box_voxel": [20, 10, 4, 24, 14, 8],
        "picture": "ct_finding_01.png",
    }
    assert list(finding) == list(predictions["finding_keys"])
    # The mark under min_score is in the table too: a FROC needs it.
    assert (out / "findings.csv").read_text().split() == [
        HEADER,
        "ct,12.25,7.0,-26.25,0.875",
        "ct,25.75,29.0,-38.75,0.25",
    ]


def test_the_findings_of_a_scan_can_be_read_by_themselves(tmp_path):
    scan, out = tmp_path / "ct.nii.gz", tmp_path / "out"
    _write_scan(scan)
    _run(scan, out, Finds([BOX], [0.9])).finish()
    predictions, alone = _json(out / "predictions.json"), _json(out / "ct_findings.json")
    (entry,) = predictions["scans"]
    for key in ("bundle", "checkpoint", "intended_use", "frame", "min_score", "finding_keys"):
        assert alone[key] == predictions[key]
    for key in ("scan", "name", "summary", "findings"):
        assert alone[key] == entry[key]


def test_the_picture_has_the_box_where_the_finding_is(tmp_path, monkeypatch):
    titles, three_planes = [], handlers.detection_report.three_planes

    def keep(scan, point, path, *, title, **settings):
        titles.append((tuple(point), title))
        three_planes(scan, point, path, title=title, **settings)

    monkeypatch.setattr(handlers.detection_report, "three_planes", keep)
    _write_scan(tmp_path / "ct.nii.gz")
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", Finds([BOX], [0.9])).finish()
    title = "ct   finding 1 of 1   score 0.900   mean diameter 8.0 mm"
    assert titles == [((22, 12, 6), title)]
    picture = imread(tmp_path / "out" / "ct_finding_01.png")
    magenta = np.minimum(picture[..., 0], picture[..., 2]) - picture[..., 1] > 0.3
    assert magenta.sum() > 200


def test_a_scan_without_a_finding_says_so(tmp_path):
    _write_scan(tmp_path / "ct.nii.gz")
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", Finds([], [])).finish()
    (entry,) = _json(tmp_path / "out" / "predictions.json")["scans"]
    assert entry["findings"] == []
    assert entry["summary"] == "no findings with a score of 0.5 or more"
    assert _json(tmp_path / "out" / "ct_findings.json")["findings"] == []
    assert _files(tmp_path / "out") == ["ct_findings.json", "findings.csv", "predictions.json"]
    assert (tmp_path / "out" / "findings.csv").read_text().split() == [HEADER]


def test_a_score_of_min_score_counts_and_only_the_first_have_pictures(tmp_path):
    _write_scan(tmp_path / "ct.nii.gz")
    finds = Finds([BOX] * 3, [0.75, 0.5, 0.4])
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", finds, max_pictures=1).finish()
    (entry,) = _json(tmp_path / "out" / "predictions.json")["scans"]
    pictures = [finding["picture"] for finding in entry["findings"]]
    assert pictures == ["ct_finding_01.png", None]
    assert entry["summary"] == "2 findings with a score of 0.5 or more, 1 of them with a picture"


@pytest.mark.parametrize("corner", [[30.0, 26, 20.5, 34, 30, 23.5], [-3.0, -3, -3, -1, -1, -1]])
def test_a_centre_outside_of_the_scan_is_shown_at_its_nearest_voxel(corner, tmp_path):
    """The last cell may lie in the padding: 21 slices are 24 for the network."""
    _write_scan(tmp_path / "ct.nii.gz")
    _run(tmp_path / "ct.nii.gz", tmp_path / "out", Finds([corner], [0.9])).finish()
    (entry,) = _json(tmp_path / "out" / "predictions.json")["scans"]
    assert entry["findings"][0]["box_voxel"][2] == corner[2]
    assert (tmp_path / "out" / "ct_finding_01.png").exists()


def test_files_of_an_earlier_run_do_not_stay(tmp_path):
    out = tmp_path / "out"
    for name in ("ct", "ct_b"):
        _write_scan(tmp_path / f"{name}.nii.gz")
    _run([tmp_path / "ct.nii.gz", tmp_path / "ct_b.nii.gz"], out, Finds([BOX] * 2, [0.9, 0.8]))
    kept = ["ct_finding_one.png", "xct_finding_01.png", "ct_finding_01_finding_01.png"]
    for name in kept:
        (out / name).touch()
    _run(tmp_path / "ct.nii.gz", out, Finds([BOX], [0.9]))
    of_the_other = ["ct_b_finding_01.png", "ct_b_finding_02.png", "ct_b_findings.json"]
    now = ["ct_finding_01.png", "ct_findings.json", "findings.csv", "predictions.json"]
    assert _files(out) == sorted([*kept, *of_the_other, *now])
    assert "ct_b" not in (out / "findings.csv").read_text()


@pytest.mark.parametrize("broken", ["three_planes", "write_json"])
def test_a_scan_that_fails_leaves_no_file_and_no_row(broken, tmp_path, monkeypatch):
    works, calls = getattr(handlers.detection_report, broken), []

    def full_disk_at_last(*args, **settings):
        calls.append(args)
        # The second of a's two pictures does not fit.
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        works(*args, **settings)

    for name in ("a", "b", "c"):
        _write_scan(tmp_path / "in" / f"{name}.nii.gz")
    out = tmp_path / "out"
    monkeypatch.setattr(handlers.detection_report, broken, full_disk_at_last)
    writer = _run(tmp_path / "in", out, Finds([BOX] * 2, [0.9, 0.8]))
    with pytest.raises(SystemExit, match="1 of 3 scans failed"):
        writer.finish()
    failed = "a" if broken == "three_planes" else "b"
    good = [name for name in "abc" if name != failed]
    assert [entry["name"] for entry in _json(out / "predictions.json")["scans"]] == good
    assert not [name for name in _files(out) if name.startswith((f"{failed}_", ".partial"))]
    rows = (out / "findings.csv").read_text().split()[1:]
    assert [row[0] for row in rows] == [good[0]] * 2 + [good[1]] * 2


def test_a_box_that_is_not_finite_fails_its_scan(tmp_path):
    _write_scan(tmp_path / "a.nii.gz")
    writer = _run(tmp_path / "a.nii.gz", tmp_path / "out", Finds([BOX], [float("nan")]))
    with pytest.raises(SystemExit, match=r"a\.nii\.gz: the network's scores must be finite, got"):
        writer.finish()
    assert _files(tmp_path / "out") == ["findings.csv", "predictions.json"]


def test_the_table_is_that_of_this_run_from_its_start(tmp_path):
    out = tmp_path / "out"
    _write_scan(tmp_path / "a.nii.gz")
    _run(tmp_path / "a.nii.gz", out, Finds([BOX], [0.9]))
    assert len((out / "findings.csv").read_text().split()) == 2
    _run(tmp_path / "none.nii.gz", out, Finds([BOX], [0.9]))
    assert (out / "findings.csv").read_text().split() == [HEADER]


def test_luna16s_evaluation_reads_the_table(tmp_path):
    """Two scans of one name; in both the box is the nodule of the annotations."""
    scans = [tmp_path / "x" / "ct.nii.gz", tmp_path / "y" / "ct.nii.gz"]
    for scan in scans:
        _write_scan(scan)
    _run(scans, tmp_path / "out", Finds([BOX, [0.0, 0, 0, 2, 2, 2]], [0.9, 0.1])).finish()
    names = [entry["name"] for entry in _json(tmp_path / "out" / "predictions.json")["scans"]]
    assert names == ["ct", "ct-2"]
    columns = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
    (tmp_path / "nodules.csv").write_text(
        columns + "".join(f"{name},12.25,7,-26.25,8\n" for name in names)
    )
    (tmp_path / "excluded.csv").write_text(columns)
    (tmp_path / "series.csv").write_text("\n".join(names))
    lines = froc_report(
        tmp_path / "nodules.csv",
        tmp_path / "excluded.csv",
        tmp_path / "series.csv",
        tmp_path / "out" / "findings.csv",
    )
    assert "true 2, false 2, missed 0, ignored 0, double 0" in lines


def test_a_2d_image(tmp_path):
    array = np.zeros((40, 32), np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), tmp_path / "m.nii.gz")
    read = Compose(
        [LoadScand(keys="image", spatial_dims=2), CopyItemsd(keys="image", names=["scan"])]
    )
    finds = Finds([[10.0, 20, 14, 22]], [0.9])
    _run(tmp_path / "m.nii.gz", tmp_path / "out", finds, transform=read, window=(0, 100)).finish()
    (entry,) = _json(tmp_path / "out" / "predictions.json")["scans"]
    (finding,) = entry["findings"]
    assert finding["box_voxel"] == [10, 20, 14, 22]
    assert finding["centre_ras_mm"] == [-11.5, -20.5]
    assert finding["centre_lps_mm"] == [11.5, 20.5]
    assert finding["diameter_mm"] == 3
    assert (tmp_path / "out" / finding["picture"]).exists()
    assert (tmp_path / "out" / "findings.csv").read_text().split()[1] == "m,11.5,20.5,0.0," + str(
        finding["score"]
    )


def test_fewer_than_no_pictures_are_refused():
    with pytest.raises(ValueError, match="max_pictures must be 0 or more, got -1"):
        DetectionReport(min_score=0.5, max_pictures=-1)


def test_an_input_on_another_grid_and_oblique_keeps_the_box(tmp_path):
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    report = DetectionReport(min_score=0.5)
    report.start({})
    scan = MetaTensor(torch.full((1, 20, 20, 20), -1000.0), torch.as_tensor(affine))
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] += affine[:3, :3] @ [4.75, 4.75, 4.75]  # voxels of half a mm from edge 5 on
    image = MetaTensor(torch.zeros(1, 20, 20, 20), torch.as_tensor(fine))
    prediction = {"boxes": [torch.tensor([[2.0, 4, 6, 6, 8, 10]])], "scores": [torch.ones(1)]}
    entry, *_ = report(prediction, image=image, scan=scan, name="x", folder=tmp_path)
    (finding,) = entry["findings"]
    assert finding["box_voxel"] == [6, 7, 8, 8, 9, 10]
    assert finding["diameter_mm"] == 2
