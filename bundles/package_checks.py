"""MONAI's own checks of an unpacked bundle, run as a script by an interpreter without Locus.

``python package_checks.py BUNDLE_ROOT SCRATCH SCHEMA`` writes one JSON line per check to its
standard output; what the libraries say goes to standard error. It imports nothing of Locus, so that
what the bundle imports is the bundle's own.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import (
    ConfigComponent,
    ckpt_export,
    create_workflow,
    load,
    verify_metadata,
    verify_net_in_out,
)
from monai.bundle.scripts import _get_fake_spatial_shape
from monai.utils import get_equivalent_dtype
from nibabel import Nifti1Image

WORKFLOWS = {"train": "train", "evaluate": "infer", "inference": "infer"}
LOCUS = ("bundles", "cohorts", "handlers", "losses", "metrics", "networks", "transforms")
# Sizes that "8*n" and "*" of the metadata's shapes stand for.
SIZE_N, SIZE_ANY = 2, 16
TOLERANCE = 1e-4


def check_metadata(root: Path, scratch: Path, schema: Path) -> str:
    """The metadata keeps the model zoo's rules; a schema that is not there yet is fetched."""
    try:
        verify_metadata(meta_file=_config(root, "metadata"), filepath=str(schema))
    except OSError as error:
        raise ValueError(
            f"the schema that metadata.json names must be reachable, or given with --schema "
            f"({error})"
        ) from error
    return f"configs/metadata.json keeps {_metadata(root)['schema'].rsplit('/', 1)[-1]}"


def check_load(root: Path, scratch: Path, schema: Path) -> str:
    """``monai.bundle.load`` gives the network with every one of its weights."""
    network = _network(root)
    weights = torch.load(root / "models" / "model.pt", map_location="cpu", weights_only=True)
    loaded = network.state_dict()
    unlike = sorted(set(weights) ^ set(loaded)) or [
        name for name in weights if not torch.equal(loaded[name], weights[name])
    ]
    if unlike:
        raise ValueError(f"the network must have the tensors of models/model.pt, not {unlike[0]}")
    return f"{type(network).__name__} with the {len(weights)} tensors of models/model.pt"


def check_network(root: Path, scratch: Path, schema: Path) -> str:
    """The network takes and gives what the metadata says.

    MONAI's check, and the zoo with it, knows a network that gives one tensor. A detector, whose
    output the metadata calls ``detection``, gives maps for each level of its pyramid: they are
    counted, measured and added up here.
    """
    data_format = _metadata(root)["network_data_format"]
    if data_format["outputs"]["pred"]["format"] == "detection":
        return _check_maps(root, data_format)
    verify_net_in_out(
        net_id="network_def",
        meta_file=_config(root, "metadata"),
        config_file=_config(root, "inference"),
        device="cpu",
        n=SIZE_N,
        any=SIZE_ANY,
    )
    return "takes and gives what configs/metadata.json says"


def check_export(root: Path, scratch: Path, schema: Path) -> str:
    """``ckpt_export`` makes a TorchScript file that computes what the network does."""
    exported = scratch / "model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(exported),
        ckpt_file=str(root / "models" / "model.pt"),
        meta_file=_config(root, "metadata"),
        config_file=_config(root, "inference"),
    )
    network, image = _network(root), _image(_metadata(root)["network_data_format"])
    with torch.no_grad():
        eager, scripted = network(image), torch.jit.load(exported).eval()(image)
    difference = _largest_difference(eager, scripted)
    if not difference <= TOLERANCE:
        raise ValueError(f"TorchScript must compute what the network does, got {difference} off")
    return f"TorchScript within {TOLERANCE:g} of the network"


def check_targets(root: Path, scratch: Path, schema: Path) -> str:
    """What the configs build, those of the overlays too, is there to be built."""
    targets = {
        target
        for file in (root / "configs").glob("*.json")
        for target in _targets(json.loads(file.read_text(encoding="utf-8")))
    }
    for target in sorted(targets):
        name = ConfigComponent({"_target_": target}).resolve_module_name()
        if locate(name) is None:
            raise ValueError(f"the package must hold what its configs build, got no {target}")
    return f"all {len(targets)} classes that the configs name are found"


def check_code(root: Path, scratch: Path, schema: Path) -> str:
    """All modules of Locus that were imported until here are the package's own."""
    used = [name for name in sys.modules if name.split(".")[0] in LOCUS]
    files = {name: Path(sys.modules[name].__file__ or "").resolve() for name in used}
    strange = [name for name in used if not files[name].is_relative_to(root)]
    if strange or not used:
        modules = ", ".join(strange) or "none at all"
        raise ValueError(f"the modules in use must be those of the package, got {modules}")
    packed = json.loads((root / "shared_code.json").read_text(encoding="utf-8"))
    return f"{len(used)} modules, all of the package, digest {packed['digest'][:12]}"


def _check_properties(workflow: str) -> Callable[[Path, Path, Path], str]:
    def check(root: Path, scratch: Path, schema: Path) -> str:
        data_list = _blank_cohort(root, scratch / "cohort")
        overrides: dict[str, Any] = {"cache_rate": 0.0} if workflow == "train" else {}
        made = create_workflow(
            config_file=_config(root, workflow),
            workflow_type=WORKFLOWS[workflow],
            dataset_dir=str(data_list.parent),
            data_list=str(data_list),
            run_dir=str(scratch / "run"),
            **overrides,
        )
        try:
            misnamed = made.check_properties()
        except KeyError as error:  # what a missing one is to MONAI
            raise ValueError(f"configs/{workflow}.json: {error.args[0]}") from error
        if misnamed:
            raise ValueError(f"configs/{workflow}.json must name as MONAI does, not {misnamed}")
        return f"configs/{workflow}.json has all {len(made.properties)} properties of MONAI's"

    return check


CHECKS: Mapping[str, Callable[[Path, Path, Path], str]] = {
    "metadata": check_metadata,
    "load": check_load,
    "network": check_network,
    **{f"{workflow} properties": _check_properties(workflow) for workflow in WORKFLOWS},
    "ckpt_export": check_export,
    "targets": check_targets,
    "shared code": check_code,
}


def _check_maps(root: Path, data_format: Mapping[str, Any]) -> str:
    expected = data_format["outputs"]["pred"]
    network, image = _network(root), _image(data_format)
    with torch.no_grad():
        levels = list(zip(*network(image).values(), strict=True))
    if len(levels) != len(network.level_strides):
        raise ValueError(
            f"the network must give maps for {len(network.level_strides)} levels, got {len(levels)}"
        )
    dtype = get_equivalent_dtype(expected["dtype"], torch.Tensor)
    for maps, stride in zip(levels, network.level_strides, strict=True):
        # A cell for every started stride.
        cells = [math.ceil(size / step) for size, step in zip(image.shape[2:], stride, strict=True)]
        shape = (1, expected["num_channels"], *cells)
        found = tuple(torch.cat(maps, dim=1).shape)
        if found != shape or any(each.dtype != dtype for each in maps):
            raise ValueError(
                f"the maps of stride {list(stride)} must be {expected['dtype']} of shape {shape} "
                f"in all, got {[str(each.dtype) for each in maps]} and {found}"
            )
    grids = ", ".join(str(list(maps[0].shape[2:])) for maps in levels)
    return (
        f"{expected['num_channels']} channels of {expected['dtype']} on grids {grids} "
        f"for an image of {list(image.shape[2:])}"
    )


def _network(root: Path) -> Any:
    # It is there, so nothing is fetched from the source.
    made: Any = load(name=root.name, bundle_dir=str(root.parent), source="github", device="cpu")
    return made.eval()


def _targets(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        # An overlay may change a component's class alone: network_def::_target_.
        yield from (config[key] for key in config if key.split("::")[-1] == "_target_")
    if isinstance(config, (dict, list)):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _targets(part)


def _image(data_format: Mapping[str, Any]) -> torch.Tensor:
    wanted = data_format["inputs"]["image"]
    shape = _get_fake_spatial_shape(wanted["spatial_shape"], n=SIZE_N, any=SIZE_ANY)
    dtype = get_equivalent_dtype(wanted["dtype"], torch.Tensor)
    generator = torch.Generator().manual_seed(0)
    return torch.rand((1, wanted["num_channels"], *shape), dtype=dtype, generator=generator)


def _largest_difference(one: Any, other: Any) -> float:
    if isinstance(one, torch.Tensor):
        return float((one - other).abs().max())
    keys = one if isinstance(one, dict) else range(len(one))
    return max(_largest_difference(one[key], other[key]) for key in keys)


def _blank_cohort(root: Path, folder: Path) -> Path:
    """A datalist of blank scans, which a workflow is put together over but never reads."""
    data_list = folder / "datalist.json"
    if data_list.exists():
        return data_list
    axes = len(_metadata(root)["network_data_format"]["inputs"]["image"]["spatial_shape"])
    scan = Nifti1Image(np.zeros((16,) * axes, np.int16), np.eye(4))
    (folder / "images").mkdir(parents=True)
    items: dict[str, Any] = {}
    for split in ("training", "validation", "testing"):
        image = f"images/{split}.nii.gz"
        nibabel.save(scan, folder / image)
        items[split] = [{"patient_id": split, "image": image, "risk": 0}]
    frame = {"world_frame": "RAS", "box_mode": "cccwhd" if axes == 3 else "ccwh", "box_unit": "mm"}
    data_list.write_text(json.dumps({"name": "blank", **frame, **items}), encoding="utf-8")
    return data_list


def _config(root: Path, name: str) -> str:
    return str(root / "configs" / f"{name}.json")


def _metadata(root: Path) -> Any:
    return json.loads(Path(_config(root, "metadata")).read_text(encoding="utf-8"))


def _sentence(error: BaseException) -> str:
    """What went wrong below the layers in which MONAI wraps an error, in one line."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def main(arguments: list[str]) -> int:
    """Run all checks, whether or not one before failed."""
    root, scratch, schema = (Path(argument).resolve() for argument in arguments)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as results:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for name, check in CHECKS.items():
            try:
                passed, said = True, check(root, scratch, schema)
            except Exception as error:
                passed, said = False, _sentence(error)
            line = {"check": name, "passed": passed, "said": said}
            print(json.dumps(line), file=results, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
