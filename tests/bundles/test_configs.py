from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from monai.bundle.config_item import ComponentLocator

from bundles.bundle_config import (
    BUNDLES_ROOT,
    TRACKING,
    bundle_names,
    config_files,
    merged_config,
    trained_keys,
)

WORKFLOWS = ("train", "evaluate", "inference")
SCHEMA = Path(__file__).parents[3] / "shared/schema/meta_schema_20240725.json"
MONAIS_STEPS = {"initialize", "finalize"}  # which a config need not have
LOCATOR = ComponentLocator()


def _components(config: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(config, dict):
        if "_target_" in config:
            yield where, config
        for key, value in config.items():
            yield from _components(value, f"{where}::{key}")
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _components(value, f"{where}::{index}")


def _resolve(target: str) -> Any:
    if "." not in target:
        module = LOCATOR.get_component_module_name(target)
        assert module is not None, f"{target} is no class of MONAI"
        module = module if isinstance(module, str) else module[0]
        return getattr(importlib.import_module(module), target)
    module, name = target.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def _leaves(config: Any, where: str = "") -> Iterator[str]:
    if isinstance(config, dict) and config and not (where and _is_component_or_group(config)):
        for key, value in config.items():
            yield from _leaves(value, f"{where}::{key}" if where else str(key))
    else:
        yield where


def _is_component_or_group(config: dict[str, Any]) -> bool:
    """A component, or named components such as metrics, which an overlay replaces as a whole."""
    return "_target_" in config or all(
        isinstance(value, dict) and "_target_" in value for value in config.values()
    )


def _overlays(bundle: str, workflow: str = "train") -> list[Path]:
    """Those for evaluate.yaml say so by their name; the others are for train.yaml."""
    known = {"common", *WORKFLOWS}
    configs = BUNDLES_ROOT / bundle / "configs"
    overlays = [path for path in sorted(configs.glob("*.yaml")) if path.stem not in known]
    is_for_evaluate = workflow == "evaluate"
    return [path for path in overlays if path.stem.endswith("_evaluate") == is_for_evaluate]


def _assert_targets_bind(config: Any, name: str) -> None:
    components = list(_components(config))
    assert len(components) > 10
    for where, component in components:
        arguments = {key: value for key, value in component.items() if not key.startswith("_")}
        signature = inspect.signature(_resolve(component["_target_"]))
        # What is handed on as a callable gets its other arguments later.
        bind = signature.bind_partial if component.get("_mode_") == "callable" else signature.bind
        try:
            bind(**arguments)
        except TypeError as error:
            pytest.fail(f"{name}{where}: {component['_target_']}: {error}")


@pytest.mark.parametrize("workflow", WORKFLOWS)
@pytest.mark.parametrize("bundle", bundle_names())
def test_every_target_binds_to_its_signature(bundle: str, workflow: str) -> None:
    config = merged_config(config_files(bundle, workflow, overlays=[]))
    _assert_targets_bind(config, f"{bundle}/{workflow}")


@pytest.mark.parametrize("workflow", WORKFLOWS)
@pytest.mark.parametrize(
    ("bundle", "overlay"),
    [(bundle, overlay.stem) for bundle in bundle_names() for overlay in _overlays(bundle)],
)
def test_every_target_of_an_overlay_binds_to_its_signature(
    bundle: str, overlay: str, workflow: str
) -> None:
    config = merged_config(config_files(bundle, "train", [overlay]))
    if workflow != "train":
        # The part that a training leaves beside its weights.
        trained = {key: config[key] for key in trained_keys(bundle)}
        config = merged_config(config_files(bundle, workflow, overlays=[]), trained)
    _assert_targets_bind(config, f"{bundle}/{workflow} with {overlay}")


@pytest.mark.parametrize(
    ("bundle", "overlay"),
    [(bundle, path.stem) for bundle in bundle_names() for path in _overlays(bundle, "evaluate")],
)
def test_every_target_of_an_overlay_for_evaluate_binds_to_its_signature(
    bundle: str, overlay: str
) -> None:
    config = merged_config(config_files(bundle, "evaluate", [overlay]))
    _assert_targets_bind(config, f"{bundle}/evaluate with {overlay}")


@pytest.mark.parametrize("bundle", bundle_names())
def test_every_override_of_an_overlay_hits_a_leaf(bundle: str) -> None:
    configs = BUNDLES_ROOT / bundle / "configs"
    base = merged_config([configs / f"{name}.yaml" for name in ("common", *WORKFLOWS)])
    base |= dict.fromkeys(MONAIS_STEPS)
    for overlay in [TRACKING, *_overlays(bundle), *_overlays(bundle, "evaluate")]:
        for leaf in _leaves(yaml.safe_load(overlay.read_text())):
            part = base
            for step in leaf.split("::"):
                keys = range(len(part)) if isinstance(part, list) else part
                key = int(step) if isinstance(part, list) else step
                assert key in keys, f"{overlay.name}: {leaf} is no setting of {bundle}"
                part = part[key]


@pytest.mark.parametrize("bundle", bundle_names())
def test_expressions_stay_small(bundle: str) -> None:
    """Hyperparameters are YAML; an expression may look up, add and divide, no more."""
    configs = BUNDLES_ROOT / bundle / "configs"
    for path in configs.glob("*.yaml"):
        for line in path.read_text().splitlines():
            assert "$lambda" not in line and "import" not in line, f"{path.name}: {line}"


@pytest.mark.parametrize("bundle", bundle_names())
def test_metadata_is_of_the_model_zoos_schema(bundle: str) -> None:
    metadata = json.loads((BUNDLES_ROOT / bundle / "configs" / "metadata.json").read_text())
    assert "Research only" in metadata["intended_use"]
    assert metadata["version"] in metadata["changelog"]
    if not SCHEMA.is_file():
        pytest.skip("needs ../shared/schema, the model zoo's rules")
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("bundle", bundle_names())
def test_pinned_versions_agree_with_the_requirements(bundle: str) -> None:
    metadata = json.loads((BUNDLES_ROOT / bundle / "configs" / "metadata.json").read_text())
    lines = (BUNDLES_ROOT.parent / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==", 1) for line in lines if "==" in line)
    for package, version in {
        **metadata["required_packages_version"],
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }.items():
        assert pins[package] == version, package


# As in the model zoo: its check does not know a detector's maps, which a test of ours does.
@pytest.mark.parametrize("bundle", sorted({*bundle_names()} - {"lung_ct_nodule_detection"}))
def test_the_network_takes_and_gives_what_the_metadata_says(bundle: str) -> None:
    configs = BUNDLES_ROOT / bundle / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "common.yaml"),
        device="cpu",
        n=8,
        any=16,
    )


@pytest.mark.parametrize(("workflow", "kind"), [("train", "train"), ("inference", "infer")])
@pytest.mark.parametrize("bundle", bundle_names())
def test_monais_properties_are_all_there(
    bundle: str, workflow: str, kind: str, datalist: Path, tmp_path: Path
) -> None:
    configs = BUNDLES_ROOT / bundle / "configs"
    uncached: Any = {"cache_rate": 0.0} if kind == "train" else {}
    config = ConfigWorkflow(
        config_file=[str(configs / "common.yaml"), str(configs / f"{workflow}.yaml")],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        workflow_type=kind,
        data_list=str(datalist),
        dataset_dir=str(datalist.parent),
        run_dir=str(tmp_path),
        **uncached,
    )
    config.initialize()
    assert config.check_properties() == []


@pytest.mark.parametrize("bundle", ["lung_ct_nodule_detection", "lung_ct_nodule_segmentation"])
def test_a_training_of_any_number_of_steps_has_its_rates(bundle: str) -> None:
    """Up to the highest rate and down again, but in so few steps that one is all there is."""
    files = config_files(bundle, "train", [])
    for steps in range(1, 31):
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        config = ConfigParser(merged_config(files))
        scheduler = {**config["train::lr_scheduler"], "total_steps": steps}
        alone = ConfigParser({"scheduler": scheduler, "warmup_share": config["warmup_share"]})
        alone["scheduler"].update(optimizer=optimizer, max_lr=1.0)
        rates = []
        one_cycle = alone.get_parsed_content("scheduler")
        for _ in range(steps - 1):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            one_cycle.step()
        assert all(0 <= rate <= 1 for rate in rates)
        assert steps < 20 or max(rates) > 0.99
