"""The docs/README.md of a package: how to use it, then the bundle's own page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundles.bundle_config import bundle_configs

_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
_HEAD = """\
# {title}, packed

Version {version} of the MONAI bundle `{bundle}`, packed from one training. **Research only. Not a
medical device.**

## Use
In this folder; from any other one, give the configs with their whole path, and they find the rest.
`configs/metadata.json` names the packages that are needed, with their versions;
`manifest.sha256` proves that all files are as they were packed.

```sh
sha256sum -c manifest.sha256
python -m monai.bundle run --config_file configs/inference.json --scans scan.nii.gz --output_dir out
python -m monai.bundle run --config_file configs/evaluate.json --data_list datalist.json
python -m monai.bundle run --config_file configs/train.json --data_list datalist.json
```

From Python, with `parent` the folder that this one lies in:

```python
import monai.bundle
network = monai.bundle.load("{bundle}", bundle_dir="parent", source="github")
```

Bundles packed from one version of the code run side by side in one process. One of another version
is refused there.

## These weights
Trained on: {data_source}.

{measures}

What follows is the page of the bundle in its repository, whose figures are of other trainings.

---

"""


def package_readme(bundle: str, metadata: Mapping[str, Any]) -> tuple[str, dict[str, Path]]:
    """The text, and the pictures to lay beside it by their new names.

    Args:
        bundle: name of a folder of ``bundles/``.
        metadata: the package's own.
    """
    docs = bundle_configs(bundle).parent / "docs"
    page = (docs / "README.md").read_text(encoding="utf-8")
    pictures = {Path(link).name: (docs / link).resolve() for _, link in _PICTURE.findall(page)}
    beside = _PICTURE.sub(lambda found: f"![{found[1]}]({Path(found[2]).name})", page)
    head = _HEAD.format(
        title=metadata["name"],
        version=metadata["version"],
        bundle=bundle,
        data_source=metadata["data_source"].rstrip("."),
        measures=_measures(metadata["eval_metrics"]),
    )
    return head + beside, pictures


def _measures(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "They were not evaluated before they were packed."
    bounds = ("_low", "_high")
    rows = [
        f"| {name} | {_number(value)}{_interval(name, metrics)} |"
        for name, value in metrics.items()
        if name != "judged_on" and not name.endswith(bounds)
    ]
    title = f"| on {metrics['judged_on']} | [95 % interval where there is one] |"
    return "\n".join([title, "|---|---|", *rows])


def _interval(name: str, metrics: Mapping[str, Any]) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "" if low is None or high is None else f" [{_number(low)}, {_number(high)}]"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
