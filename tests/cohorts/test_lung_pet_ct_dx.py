from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pytest

from cohorts.check import main as check
from cohorts.datalist import SPLITS, read_datalist
from cohorts.lung_pet_ct_dx import main
from cohorts.voc_boxes import read_voc_boxes


def voc(*boxes: tuple[int, int, int, int], width: int = 32, height: int = 24) -> str:
    """As the collection's files, with its odd ``source``."""
    objects = "".join(
        "<object><name>A</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<Difficult>0</Difficult><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for left, top, right, bottom in boxes
    )
    return (
        '<annotation verified="no"><folder>Unknow</folder><filename>Unknow</filename>'
        "<source>Unknow<database>Unknown</database></source>"
        f"<size><width>{width}</width><height>{height}</height><depth>1</depth></size>"
        f"<segmented>0</segmented>{objects}</annotation>"
    )


@pytest.fixture
def collection(tmp_path: Path, write_dicom: Callable[..., list[str]]) -> Path:
    """One boxed series, one of the same patient without a box, PET, and another patient's."""
    root = tmp_path / "dicom"
    uids = write_dicom(root / "Lung_Dx-A0001/study/3", "1.3", PatientID="Lung_Dx-A0001")
    write_dicom(root / "Lung_Dx-A0001/study/2", "1.2", PatientID="Lung_Dx-A0001")
    write_dicom(root / "Lung_Dx-A0001/study/1", "1.1", PatientID="Lung_Dx-A0001", Modality="PT")
    write_dicom(root / "Lung_Dx-G0002/study/1", "1.9", PatientID="Lung_Dx-G0002")
    xml = tmp_path / "Annotation" / "A0001"
    xml.mkdir(parents=True)
    (xml / f"{uids[1]}.xml").write_text(voc((8, 12, 16, 18)))
    (xml / f"{uids[2]}.xml").write_text(voc((8, 12, 18, 18), (28, 0, 32, 4)))
    (xml / "1.77.xml").write_text(voc((0, 0, 5, 5)))  # of a series that is not here
    return root


def command(collection: Path) -> int:
    folder = collection.parent
    return main(
        ["--input", str(collection), "--annotations", str(folder / "Annotation"),
         "--output", str(folder / "out"), "--workers", "1"]
    )  # fmt: skip


def items(collection: Path) -> list[dict]:
    datalist = read_datalist(collection.parent / "out" / "datalist.json")
    return [item for split in SPLITS for item in datalist[split]]


def test_slices_become_lesions_in_mm(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(collection) == 0
    (item,) = items(collection)
    np.testing.assert_allclose(
        item["boxes"], [[3.5, -2.5, 3, 10, 6, 4], [-13.5, 10.5, 4, 4, 4, 2]], atol=1e-6
    )
    assert [len(nodule["slice_boxes"]) for nodule in item["nodules"]] == [2, 1]
    assert (item["patient_id"], item["risk"]) == ("Lung_Dx-A0001", 1)
    assert item["histology"] == "adenocarcinoma"
    out = capsys.readouterr().out
    assert out.count("left out: ") == 3
    assert "no axial CT series, but PT" in out
    assert "no XML of A0001 boxes its slices" in out
    assert "no XML files of its patient Lung_Dx-G0002" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (voc((8, 12, 16, 18))[:-9], "1.3.2.xml: must be a whole XML file, got"),
        (voc((8, 12, 16, 18), width=64), "1.3.2.xml: width must be that of the image, got 64"),
        (voc((8, 12, 8, 18)), "1.3.2.xml: a box must have an area, got 8, 12 to 8, 18"),
        (voc((8, 12, 40, 18)), "a box must lie in its slice of 32 x 24 pixels"),
        ("<svg/>", "1.3.2.xml: must hold a Pascal-VOC annotation, got <svg>"),
    ],
)
def test_a_wrong_xml_is_named(
    text: str, message: str, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection.parent / "Annotation" / "A0001" / "1.3.2.xml").write_text(text)
    assert command(collection) == 1
    assert message in capsys.readouterr().err


def test_real_series(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A0001: its boxes in mm by hand, and the tumour's side that they show and the check asks."""
    source = shared_data / "lung-pet-ct-dx"
    with ZipFile(source / "A0001_series3_5mm.zip") as archive:
        archive.extractall(tmp_path / "dicom")
    (tmp_path / "Annotation").symlink_to(source)
    assert command(tmp_path / "dicom") == 0
    (item,) = items(tmp_path / "dicom")
    (box,) = item["boxes"]
    drawn = item["nodules"][0]["slice_boxes"]
    image = nib.nifti1.load(tmp_path / "out" / item["image"])
    assert image.shape == (512, 512, 64)
    # Each slice's box lies in the hull, whose height is that of its slices.
    assert len(drawn) == round(box[5] / 5)
    inverse = np.linalg.inv(image.affine)
    edges = {
        edge
        for path in (source / "annotation-A0001").glob("*.xml")
        for _, edge in read_voc_boxes(path, columns=512, rows=512)
    }
    for centre_size in drawn:
        centre = (inverse @ [*centre_size[:3], 1])[:2] + 0.5
        half = np.abs(inverse[:2, :2] @ centre_size[3:5]) / 2
        left, top, right, bottom = np.rint([*(centre - half), *(centre + half)])
        assert (left, top, right, bottom) in edges
        np.testing.assert_allclose([*(centre - half), *(centre + half)],
                                   [left, top, right, bottom], atol=1e-4)  # fmt: skip
    # RAS: the patient's left has x below 0 here, and the drawn columns are beyond the middle.
    assert box[0] < 0
    assert item["side"] == "left"
    datalist = tmp_path / "out" / "datalist.json"
    assert check([str(datalist), "--workers", "1"]) == 0
    datalist.write_text(datalist.read_text().replace('"side": "left"', '"side": "right"'))
    capsys.readouterr()
    assert check([str(datalist), "--workers", "1"]) == 1
    assert "side must be that of a malignant box, got right" in capsys.readouterr().err
