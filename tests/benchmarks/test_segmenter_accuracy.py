from __future__ import annotations

import csv
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from benchmarks import plain_conv_unet as peer_module
from benchmarks.foreground_logit import ForegroundLogit
from benchmarks.segmenter_accuracy import (
    OURS,
    PEER,
    accuracy_record,
    network_runs,
    print_record,
)
from bundles.train_runs import train_runs
from cohorts import CohortSettings, ScannerSettings, make_cohort
from handlers.segmentation_rows import SCAN_COLUMNS
from handlers.write_json import write_json

TINY = """
spacing_mm: [6.0, 6.0, 6.0]
tile_shape: [64, 64, 64]
patch_shape: [32, 32, 32]
patches_per_scan: 1
batch_size: 2
cache_workers: 0
"""


@pytest.fixture(scope="module")
def datalist(tmp_path_factory):
    settings = CohortSettings(
        training=2,
        validation=1,
        testing=2,
        seed=4,
        clean_fraction=0,
        min_diameter_mm=20,
        scanner=ScannerSettings(spacing_mm=(6.0, 6.0, 6.0)),
    )
    return make_cohort(settings, tmp_path_factory.mktemp("data"), quiet=True)


@pytest.fixture
def peer():
    pytest.importorskip("dynamic_network_architectures", reason=f"by hand: {peer_module._INSTALL}")


def _runs(datalist, folder):
    tiny = folder / "tiny.yaml"
    tiny.write_text(TINY)
    return network_runs(datalist, folder / "out", epochs=1, seeds=1, overlays=[tiny])


def _batches(run):
    """The network of a training, and the images of its first epoch."""
    config = ConfigParser(run.config())
    config["data_list"] = str(run.datalist)
    config.get_parsed_content("initialize")
    network = config.get_parsed_content("network")
    loader = config.get_parsed_content("train::dataloader")
    return network, [batch["image"] for batch in loader]


def test_one_logit_has_the_share_of_two():
    two = torch.randn(2, 2, 3, 4, 5)
    one = ForegroundLogit(torch.nn.Identity())(two)
    assert one.shape == (2, 1, 3, 4, 5)
    torch.testing.assert_close(one.sigmoid()[:, 0], two.softmax(dim=1)[:, 1])


@pytest.mark.usefixtures("peer")
def test_only_the_network_differs_and_both_see_the_same_patches(datalist, tmp_path):
    ours, peer = _runs(datalist, tmp_path)
    first, second = ours.config(), peer.config()
    differing = {name for name in first | second if first.get(name) != second.get(name)}
    assert differing == {"network_def", "memory_format", "run_dir", "run_name"}
    (small, patches), (large, same) = _batches(ours), _batches(peer)
    assert len(patches) == len(same) == 1
    torch.testing.assert_close(patches[0], same[0], rtol=0, atol=0)
    for network in (small, large):
        with torch.no_grad():
            assert network(torch.rand(2, 1, 32, 32, 32)).shape == (2, 1, 32, 32, 32)


@pytest.mark.usefixtures("peer")
def test_the_peer_has_a_level_less():
    encoders: list[Any] = [peer_module.plain_conv_unet(n).encoder for n in (5, 6)]
    levels = [len(encoder.stages) for encoder in encoders]
    assert levels == [5, 6]
    with pytest.raises(ValueError, match="levels must be 2 to 6, got 7"):
        peer_module.plain_conv_unet(7)


def _evaluated(run, rows):
    """What a finished run leaves behind, of the Dice of each scan's nodules: found from 0.25 on."""
    (run.folder / "evaluation").mkdir(parents=True)
    with run.per_scan.open("w", newline="") as file:
        table = csv.DictWriter(file, SCAN_COLUMNS, restval="0")
        table.writeheader()
        for patient, dice in rows:
            found = [each for each in dice if each >= 0.25]
            counts = {"nodules": len(dice), "found": len(found)}
            sums = {"summed_dice": sum(dice), "summed_dice_found": sum(found)}
            table.writerow({"patient_id": patient, **counts, **sums})
    torch.save({"trainer": {"iteration": 40}}, run.folder / "last.pt")
    write_json(run.folder / "training.json", {"median_step_s": 0.25})
    run.begin()
    run.note_training(90.0, jobs=1, trained=True)


def test_the_difference_is_ours_less_the_peers_on_the_same_patients(datalist, tmp_path, capsys):
    ours, peer = _runs(datalist, tmp_path)
    patients = [f"p{number}" for number in range(12)]
    _evaluated(ours, [(patient, (0.125, 0.625)) for patient in patients])
    _evaluated(peer, [(patient, (0.25, 0.75)) for patient in patients])
    record = accuracy_record([ours, peer])
    dice = record["measures"]["dice"]["arms"]
    assert (dice[OURS]["value"], dice[PEER]["value"]) == (0.375, 0.5)
    assert dice[OURS]["difference"] == pytest.approx(-0.125)
    assert dice[OURS]["difference_low"] == pytest.approx(-0.125)
    found = record["measures"]["dice_found"]["arms"]
    assert (found[OURS]["value"], found[PEER]["value"]) == (0.625, 0.5)
    assert found[OURS]["difference"] == found[OURS]["difference_high"] == 0.125
    assert record["measures"]["found"]["arms"][OURS]["difference"] == -0.5
    assert [each["minutes"] for each in record["training"]] == [1.5, 1.5]
    print_record(record)
    printed = capsys.readouterr().out
    assert "difference -0.125 [-0.125, -0.125]" in printed
    assert "ours, seed 0: 40 steps of 2 patches in 1.5 minutes, 0.25 s a step" in printed


def test_ours_is_trained_timed_and_evaluated(datalist, tmp_path):
    ours = _runs(datalist, tmp_path)[0]
    assert train_runs([ours], 1) == {}, ours.log.read_text()
    assert ours.per_scan.is_file()
    assert (ours.folder / "training.json").is_file()
    assert ours.steps() == {}
