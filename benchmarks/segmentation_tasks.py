"""A mask of one scan and its parts, by our bundle's inference and by MONAI's usual pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from monai.inferers.inferer import Inferer
from monai.networks.utils import eval_mode
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Spacingd, SpatialCropd
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray

from benchmarks.logit_field import FieldInferer, LogitField
from benchmarks.spleen_bundle import (
    nifti_name,
    sliding_windows,
    spleen_evaluator,
    spleen_mask_path,
    spleen_network,
    spleen_preprocessing,
)
from benchmarks.wall_and_cpu import wall_and_cpu_s
from bundles.bundle_config import config_files, merged_config
from handlers import batch_of_one
from networks import logits_to_scan
from transforms import CropToLungsd, ResampleAxesd

BUNDLE = "lung_ct_nodule_segmentation"
_ARRAY = "mask.npy"

Seconds = NDArray[np.float64]  # of the wall clock and of CPU time


class Job(NamedTuple):
    """Attributes:
    scan: file of the CT.
    run_dir: folder with ``model.pt``, and ``trained.yaml`` where it comes from a training.
    output: folder of the mask, made if needed.
    field: logits for where no network runs.
    """

    scan: Path
    run_dir: Path
    output: Path
    field: LogitField


#: Makes a mask in ``output``, and returns wall and CPU seconds of what is measured of it.
Task = Callable[[Job], Seconds]


def inference_config(job: Job) -> ConfigParser:
    """The bundle's inference on a CPU as ``python -m bundles predict`` sets it, no pictures."""
    trained = job.run_dir / "trained.yaml"
    files = config_files(BUNDLE, "inference", [trained] if trained.is_file() else [])
    overrides = {
        "device": "$torch.device('cpu')",
        "run_dir": str(job.run_dir),
        "scans": str(job.scan),
        "output_dir": str(job.output),
        "max_pictures": 0,
    }
    return ConfigParser(merged_config(files, overrides))


def ours_without_network(job: Job) -> Seconds:
    """Our inference, file to mask, on the logits of the field."""
    given = FieldInferer(job.field, _our_prediction)
    config = inference_config(job)
    config["inferer"] = given
    return _run_s(config) - given.seconds


def ours_in_all(job: Job) -> Seconds:
    """Our inference, file to mask."""
    return _run_s(inference_config(job))


def our_network(job: Job) -> Seconds:
    """The crop to the lungs and our tiles; the rest of our inference is not in the time."""
    config = inference_config(job)
    sample: dict[str, Any] = {"image": str(job.scan)}
    seconds = np.zeros(2)
    for transform in _transforms(config, "read_scan", "prepare_scan"):
        start = wall_and_cpu_s()
        sample = transform(sample)
        if isinstance(transform, CropToLungsd):
            seconds += wall_and_cpu_s() - start
    return seconds + _segment_s(config, sample["image"], config.get_parsed_content("inferer"), job)


def windows_on_full_grid(job: Job) -> Seconds:
    """MONAI's sliding window with our network, on the whole scan on our network's grid."""
    config = inference_config(job)
    sample: dict[str, Any] = {"image": str(job.scan)}
    for transform in _transforms(config, "read_scan", "prepare_scan"):
        if not isinstance(transform, CropToLungsd):
            sample = transform(sample)
    return _segment_s(config, sample["image"], sliding_windows(), job)


def spleen_without_network(job: Job) -> Seconds:
    """The peer, file to mask, on the logits of the field."""
    return _spleen_field_s(job, spleen_preprocessing())


def spleen_in_all(job: Job) -> Seconds:
    """The peer, file to mask."""
    evaluator = spleen_evaluator(
        job.scan,
        job.output,
        preprocessing=spleen_preprocessing(),
        network=spleen_network(),
        inferer=sliding_windows(),
    )
    start = wall_and_cpu_s()
    evaluator.run()
    return wall_and_cpu_s() - start


def spleen_on_our_grid(job: Job) -> Seconds:
    """The peer's way back to the scan and its mask, from the field on our network's grid."""
    config = inference_config(job)
    whole = _applied(_transforms(config, "read_scan"), {"image": str(job.scan)})["image"]
    steps: list[Callable] = [LoadImaged(keys="image"), EnsureChannelFirstd(keys="image")]
    for transform in _transforms(config, "prepare_scan"):
        if isinstance(transform, CropToLungsd):
            crop = transform({"image": whole})["image"]
            corner = torch.linalg.solve(whole.affine, crop.affine)[:3, 3].round().int()
            stop = corner + torch.tensor(crop.shape[1:])
            # MONAI's own inverse does not know ours.
            transform = SpatialCropd("image", roi_start=corner.tolist(), roi_end=stop.tolist())
        elif isinstance(transform, ResampleAxesd):
            transform = Spacingd(
                "image", transform.spacing_mm, mode="bilinear", padding_mode="border"
            )
        steps.append(transform)
    return _spleen_field_s(job, Compose(steps))


def step_seconds(job: Job) -> dict[str, Seconds]:
    """Wall and CPU seconds of each step of :func:`ours_without_network`, by the step's name."""
    config = inference_config(job)
    seconds: dict[str, Seconds] = {}
    sample: Any = {"image": str(job.scan), "source": str(job.scan)}
    for transform in _transforms(config, "read_scan", "keep_scan", "prepare_scan", "select"):
        start = wall_and_cpu_s()
        sample = transform(sample)
        seconds[type(transform).__name__] = wall_and_cpu_s() - start
    start = wall_and_cpu_s()
    batch = batch_of_one([sample])
    seconds["batch"] = wall_and_cpu_s() - start
    del sample
    prediction = FieldInferer(job.field, _our_prediction)(batch["image"], torch.nn.Identity())
    report = config.get_parsed_content("report")
    job.output.mkdir(parents=True, exist_ok=True)
    start = wall_and_cpu_s()
    report.start({})
    image, scan = batch["image"][0], batch["scan"][0]
    report(prediction, image=image, scan=scan, name=nifti_name(job.scan), folder=job.output)
    seconds["report"] = wall_and_cpu_s() - start
    return seconds


def mask_path(task: Task, job: Job) -> Path:
    """Where a task writes the mask of a NIfTI."""
    if task in (our_network, windows_on_full_grid):
        return job.output / _ARRAY
    if task in (ours_without_network, ours_in_all):
        return job.output / f"{nifti_name(job.scan)}_nodules.nii.gz"
    return spleen_mask_path(job.scan, job.output)


def _run_s(config: ConfigParser) -> Seconds:
    config.get_parsed_content("evaluator")  # built before the clock starts
    start = wall_and_cpu_s()
    config.get_parsed_content("run")
    return wall_and_cpu_s() - start


def _segment_s(config: ConfigParser, image: MetaTensor, inferer: Inferer, job: Job) -> Seconds:
    """Seconds of the network on an input ``(1, H, W, D)``; the mask is made afterwards."""
    network = config.get_parsed_content("network")
    network.load_state_dict(torch.load(job.run_dir / "model.pt", weights_only=True))
    inputs = list_data_collate([{"image": image}])["image"]
    start = wall_and_cpu_s()
    with eval_mode(network):
        output = inferer(inputs, network)
    seconds = wall_and_cpu_s() - start
    logits = output["logits"] if isinstance(output, Mapping) else output.as_tensor()
    whole = _applied(_transforms(config, "read_scan"), {"image": str(job.scan)})["image"]
    mask = logits_to_scan(
        logits[0], image.affine, scan_affine=whole.affine, scan_shape=whole.shape[1:]
    )
    job.output.mkdir(parents=True, exist_ok=True)
    np.save(job.output / _ARRAY, mask[0].numpy() != 0)
    return seconds


def _spleen_field_s(job: Job, preprocessing: Compose) -> Seconds:
    given = FieldInferer(job.field, _spleen_prediction)
    evaluator = spleen_evaluator(
        job.scan,
        job.output,
        preprocessing=preprocessing,
        network=torch.nn.Identity(),
        inferer=given,
    )
    start = wall_and_cpu_s()
    evaluator.run()
    return wall_and_cpu_s() - start - given.seconds


def _transforms(config: ConfigParser, *lists: str) -> list[Callable]:
    return [transform for name in lists for transform in config.get_parsed_content(name)]


def _applied(transforms: list[Callable], sample: Any) -> Any:
    return Compose(transforms)(sample)


def _our_prediction(logits: torch.Tensor, inputs: MetaTensor) -> dict[str, torch.Tensor]:
    return {"logits": logits[None, None], "affine": inputs.affine.reshape(4, 4).double().cpu()}


def _spleen_prediction(logits: torch.Tensor, inputs: MetaTensor) -> torch.Tensor:
    """Two classes whose softmax is the field's sigmoid."""
    classes = torch.stack([torch.zeros_like(logits), logits])[None]
    prediction: torch.Tensor = convert_to_dst_type(classes, inputs)[0]
    return prediction
