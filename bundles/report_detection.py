"""The demo's section on boxes: pictures and numbers of one training."""

from __future__ import annotations

import json
import os
import shlex
from html import escape
from pathlib import Path
from string import Template

from bundles.detection_picture import draw_detections
from bundles.embedded_picture import embedded_picture
from bundles.predicted_scans import predicted_nodules
from bundles.report_tables import detection_table, size_table
from cohorts import load_datalist
from handlers.mlflow_store import checkout_folder

SECTION = Template("""<h2 id="boxes">Boxes: where the nodules are</h2>
<p>A detector with a feature pyramid, trained on patches of the same $training phantom scans with
the boxes of all nodules, benign or malignant. It is judged on the $testing held-out phantoms, with
$nodules nodules in them, by LUNA16's rule: a nodule is found if the centre of a box is nearer to
its centre than half its diameter. False marks are those on no nodule.</p>
<h3>On held-out phantoms</h3>
$sensitivities
<p>In brackets the 95 % interval of a bootstrap over scans. The training is of one seed.</p>
$sizes
<img alt="FROC" src="$froc">
<h3>What it found</h3>
<p>Axial slices through the largest nodule of each scan. Green boxes are true, dashed ones found,
with a score of $min_score or more; boxes that this slice does not cut are not drawn.</p>
<img alt="true and found boxes" src="$pictures">
<h3>The training</h3>
<img alt="curves" src="$curves">
<p>The simpler rungs, one box for the whole lungs and a grid of a single scale, are compared with
this one by<br>
<code>python -m bundles compare $bundle --overlay demo --datalist $datalist</code></p>
""")


def detection_section(folder: Path, datalist: Path, run: Path, *, bundle: str) -> str:
    """The section as HTML that holds its pictures.

    Args:
        folder: where ``detections.png`` is written.
        datalist: the phantoms' datalist.
        run: the training's folder, evaluated and with predictions of some test scans with nodules.
        bundle: the one trained.
    """
    evaluation = json.loads((run / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    predictions = json.loads((run / "predictions" / "predictions.json").read_text(encoding="utf-8"))
    items = predicted_nodules(datalist, run / "predictions")
    draw_detections(items, run / "predictions", folder / "detections.png")
    return SECTION.substitute(
        bundle=bundle,
        datalist=escape(shlex.quote(os.path.relpath(datalist, checkout_folder()))),
        training=len(load_datalist(datalist, "training")),
        testing=evaluation["scans"],
        nodules=evaluation["nodules"],
        sensitivities=detection_table(evaluation["metrics"]),
        sizes=size_table(evaluation["by_size"]),
        froc=embedded_picture(run / "evaluation" / "froc.png"),
        min_score=f"{predictions['min_score']:g}",
        pictures=embedded_picture(folder / "detections.png"),
        curves=embedded_picture(run / "curves.png"),
    )
