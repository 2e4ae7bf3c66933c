from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pytest

from cohorts.check import main as check
from cohorts.datalist import SPLITS, read_datalist
from cohorts.dicom_scan import DicomScan, read_dicom_scan
from cohorts.lidc import main, scan_nodules
from cohorts.lidc_instances import lidc_instances
from cohorts.lidc_nodules import RATINGS
from cohorts.lidc_xml import lidc_xml_files, read_lidc_xml

SERIES_1011 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.272123398257168239653655006815"


def roi(z_mm: float, low: int, high: int) -> str:
    """A square outline; the nodule is what lies inside of its pixels."""
    corners = [(low, low), (high, low), (high, high), (low, high), (low, low)]
    points = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>"
        for (x0, y0), (x1, y1) in itertools.pairwise(corners)
        for x, y in zip(
            np.linspace(x0, x1, high - low, endpoint=False).astype(int),
            np.linspace(y0, y1, high - low, endpoint=False).astype(int),
            strict=True,
        )
    )
    return (
        f"<roi><imageZposition>{z_mm}</imageZposition><imageSOP_UID>1.2</imageSOP_UID>"
        f"<inclusion>TRUE</inclusion>{points}</roi>"
    )


def nodule(name: str, malignancy: int, *rois: str) -> str:
    values = dict.fromkeys(RATINGS, 3) | {"malignancy": malignancy}
    ratings = "".join(f"<{key}>{value}</{key}>" for key, value in values.items())
    return (
        f"<unblindedReadNodule><noduleID>{name}</noduleID>"
        f"<characteristics>{ratings}</characteristics>{''.join(rois)}</unblindedReadNodule>"
    )


def message(series: str, *sessions: str, root: str = "LidcReadMessage") -> str:
    small = (
        "<unblindedReadNodule><noduleID>s</noduleID><roi><imageZposition>4</imageZposition>"
        "<inclusion>TRUE</inclusion><edgeMap><xCoord>3</xCoord><yCoord>3</yCoord></edgeMap></roi>"
        "</unblindedReadNodule><nonNodule><nonNoduleID>n</nonNoduleID></nonNodule>"
    )
    readers = "".join(f"<readingSession>{found}{small}</readingSession>" for found in sessions)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="http://www.nih.gov">'
        f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
        f"{readers}</{root}>"
    )


@pytest.fixture
def collection(tmp_path: Path, write_dicom: Callable[..., list[str]]) -> Path:
    """A series with a nodule that two readers outlined and one of a single reader."""
    root = tmp_path / "LIDC-IDRI"
    write_dicom(root / "LIDC-IDRI-0001/study/ct", "1.4", PatientID="LIDC-IDRI-0001")
    write_dicom(root / "LIDC-IDRI-0001/study/dx", "1.5", PatientID="LIDC-IDRI-0001", Modality="DX")
    xml = tmp_path / "tcia-lidc-xml" / "157"
    xml.mkdir(parents=True)
    first = nodule("a", 5, roi(4, 10, 16), roi(6, 10, 16))
    second = nodule("b", 4, roi(4, 10, 16)) + nodule("c", 1, roi(8, 20, 23))
    (xml / "158.xml").write_text(message("1.4", first, second))
    (xml / "159.xml").write_text(message("1.77", "", root="IdriReadMessage"))
    return root


def command(collection: Path, *options: str) -> int:
    output, xml = (collection.parent / name for name in ("out", "tcia-lidc-xml"))
    return main(["--input", str(collection), "--output", str(output), "--xml", str(xml),
                 "--workers", "1", *options])  # fmt: skip


def only_item(collection: Path) -> dict:
    datalist = read_datalist(collection.parent / "out" / "datalist.json")
    (item,) = (item for split in SPLITS for item in datalist[split])
    return item


def test_readers_become_consensus_and_boxes(collection: Path) -> None:
    assert command(collection) == 0
    item = only_item(collection)
    # Inside of the outline: columns and rows 11 to 16, slices 2 and 3; origin -16, -12, 0 LPS.
    expected = np.array([[3, -1, 5, 5, 5, 4], [-5.5, -9.5, 8, 2, 2, 2]])
    np.testing.assert_allclose(item["boxes"], expected, atol=1e-6)
    assert item["box_labels"] == [1, 0]
    first, second = item["nodules"]
    assert (first["readers"], second["readers"]) == (2, 1)
    assert (first["malignancy"], second["malignancy"]) == (4.5, 1)
    assert (first["volume_mm3"], second["volume_mm3"]) == (25 * 2 * 2, 4 * 2)
    mask = np.asarray(nib.nifti1.load(collection.parent / "out" / item["mask"]).dataobj)
    assert (mask[11:16, 11:16, 2:4] == 1).all()
    assert (mask[21:23, 21:23, 4] == 2).all()
    assert np.count_nonzero(mask) == 54
    assert item["risk"] == 1
    assert check([str(collection.parent / "out" / "datalist.json"), "--workers", "1"]) == 0


def test_agreement_and_readers_are_chosen(collection: Path) -> None:
    assert command(collection, "--agreement", "1", "--min-readers", "2") == 0
    item = only_item(collection)
    np.testing.assert_allclose(item["boxes"], [[3, -1, 4, 5, 5, 2]], atol=1e-6)
    assert command(collection, "--agreement", "0") == 1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (">8<", ">8.9<", "an outline must be on one of the series' slices, got one at 8.9 mm"),
        (">8<", ">80<", "got one at 80 mm"),
        (">23<", ">90<", "an outline must lie in the image of shape"),
        ("<malignancy>4<", "<malignancy>high<", "158.xml: nodule b must have numbers, got"),
        ("</LidcReadMessage>", "", "158.xml: must be a whole XML file, got"),
    ],
)
def test_a_wrong_xml_is_named(
    old: str, new: str, problem: str, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = collection.parent / "tcia-lidc-xml" / "157" / "158.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert command(collection) == 1
    assert problem in capsys.readouterr().err


def test_one_xml_for_a_series(collection: Path) -> None:
    folder = collection.parent / "tcia-lidc-xml"
    assert list(lidc_xml_files(folder)) == ["1.4"]
    (folder / "copy.xml").write_text((folder / "157" / "158.xml").read_text())
    with pytest.raises(ValueError, match="a series must have one XML, got also"):
        lidc_xml_files(folder)


@pytest.fixture(scope="module")
def whole_scan() -> DicomScan:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "lidc1011"
    if not folder.is_dir():
        pytest.skip(f"the real scans are not here: {folder}")
    image = nib.nifti1.load(folder / "LIDC-IDRI-1011.nii.gz")
    hu = np.broadcast_to(np.int16(0), image.shape)
    return DicomScan(folder, hu, image.affine, {})


def test_xml_and_database_agree_and_lie_on_the_published_nodules(whole_scan: DicomScan) -> None:
    folder = whole_scan.folder
    xml = folder / "LIDC-IDRI-1011_188-090.xml"
    assert len(read_lidc_xml(xml)[1]) == 13
    published = json.loads((folder / "LIDC-IDRI-1011_nodules.json").read_text())
    reference = np.asarray(
        nib.nifti1.load(folder / "LIDC-IDRI-1011_nodules_consensus50.nii.gz").dataobj
    )
    from_xml, from_database = (
        lidc_instances(scan_nodules(SERIES_1011, source, whole_scan), whole_scan, agreement=0.5)
        for source in (xml, None)
    )
    np.testing.assert_array_equal(from_xml[0], from_database[0])
    assert from_xml[1:] == from_database[1:]
    mask, boxes, records = from_xml
    assert len(records) == len(published) == 4
    for box, record in zip(boxes, records, strict=True):
        centre_lps = np.array(box[:3]) * [-1, -1, 1]
        near = min(published, key=lambda one: np.linalg.norm(one["centre_LPS_mm"] - centre_lps))
        assert np.linalg.norm(near["centre_LPS_mm"] - centre_lps) < 2.5
        assert record["readers"] == near["readers"]
        assert record["malignancy"] == pytest.approx(np.mean(near["malignancy"]))
        # The reference counts the outline's pixels, which are the first outside of the nodule.
        ours, theirs = mask == record["instance"], reference == near["label"]
        assert not (ours & ~theirs).any()


def test_the_real_dicom_slices_have_the_scans_grid(shared_data: Path, tmp_path: Path) -> None:
    with ZipFile(shared_data / "lidc1011" / "LIDC-IDRI-1011_dicom_excerpt.zip") as archive:
        archive.extractall(tmp_path)
    folder = next(tmp_path.rglob("*.dcm")).parent
    scan = read_dicom_scan(folder)
    image = nib.nifti1.load(shared_data / "lidc1011" / "LIDC-IDRI-1011.nii.gz")
    first = round((scan.affine[2, 3] - image.affine[2, 3]) / 2.5)
    np.testing.assert_allclose(scan.affine[:, :3], image.affine[:, :3], atol=1e-6)
    assert len(scan.slice_of_uid) == scan.hu.shape[2] == 30
    whole = np.asarray(image.dataobj[..., first : first + 30])
    # Outside of the field of view the whole scan has -2048.
    inside = whole > -1500
    np.testing.assert_array_equal(scan.hu[inside], whole[inside])
