"""The demo's section on voxels: pictures and numbers of one training."""

from __future__ import annotations

import json
import os
import shlex
from html import escape
from pathlib import Path
from string import Template

from bundles.embedded_picture import embedded_picture
from bundles.predicted_scans import predicted_nodules
from bundles.report_tables import nodule_size_table, segmentation_table
from bundles.segmentation_picture import draw_segmentations
from cohorts import load_datalist
from handlers.mlflow_store import checkout_folder

SECTION = Template("""<h2 id="voxels">Voxels: how large the nodules are</h2>
<p>A UNet, trained on patches of the same $training phantom scans with the masks of all nodules,
benign or malignant. It is judged on the $testing held-out phantoms, with $nodules nodules in them,
each on its scan's own grid. A nodule is found if its mask overlaps the true one by an IoU of 0.1 or
more; one that is not counts with what touches it, mostly a Dice of 0. False components touch no
nodule.</p>
<h3>On held-out phantoms</h3>
$values
<p>In brackets the 95 % interval of a bootstrap over patients; without one there are too few. The
training is of one seed. A size is the diameter of the sphere with the nodule's volume.</p>
$sizes
<img alt="Dice and volume of each nodule" src="$each">
<h3>What it found</h3>
<p>Axial slices round the largest nodule of each scan. Green outlines are true, dashed ones
found.</p>
<img alt="true and found outlines" src="$pictures">
<h3>The training</h3>
<img alt="curves" src="$curves">
<p>The simpler rungs, a coarse map scaled up and a network that never pools, are compared with this
one by<br>
<code>python -m bundles compare $bundle --overlay demo --datalist $datalist</code></p>
""")


def segmentation_section(folder: Path, datalist: Path, run: Path, *, bundle: str) -> str:
    """The section as HTML that holds its pictures.

    Args:
        folder: where ``segmentations.png`` is written.
        datalist: the phantoms' datalist.
        run: the training's folder, evaluated and with predictions of some test scans with nodules.
        bundle: the one trained.
    """
    evaluation = json.loads((run / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    items = predicted_nodules(datalist, run / "predictions")
    draw_segmentations(items, run / "predictions", folder / "segmentations.png")
    return SECTION.substitute(
        bundle=bundle,
        datalist=escape(shlex.quote(os.path.relpath(datalist, checkout_folder()))),
        training=len(load_datalist(datalist, "training")),
        testing=evaluation["scans"],
        nodules=evaluation["nodules"],
        values=segmentation_table(evaluation["metrics"]),
        sizes=nodule_size_table(evaluation["by_size"]),
        each=embedded_picture(run / "evaluation" / "nodules.png"),
        pictures=embedded_picture(folder / "segmentations.png"),
        curves=embedded_picture(run / "curves.png"),
    )
