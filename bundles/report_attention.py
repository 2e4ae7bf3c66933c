"""The demo's section on attention: pictures and numbers of two trainings."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from bundles.attention_comparison import draw_attention_comparison
from bundles.comparison_measures import measured
from bundles.comparison_plan import ComparisonPlan, comparison_plan
from bundles.embedded_picture import embedded_picture
from bundles.predicted_scans import predicted_scans
from bundles.report_tables import calibration_table, difference_table, recall_table
from cohorts import load_datalist
from handlers.mlflow_store import checkout_folder
from metrics.platt_scaling import MIN_SCANS_PER_CLASS

REFERENCE, SUPERVISED = "no_attention", "attention"
TITLES = {REFERENCE: "without supervision", SUPERVISED: "with supervision"}
SECTION = Template("""<h2 id="attention">Attention: where the network looked</h2>
<p>One network was trained twice on the same $training phantom scans: once on the risk alone, once
also told where to look, by the loss &minus;log&nbsp;&Sigma;&nbsp;&alpha;&middot;A* on its
attention.
Both are judged on $testing other phantoms, $positives of them with a malignant nodule.</p>
<h3>On held-out phantoms</h3>
$differences
$chance
<p>Each training keeps the epoch of its own smallest validation loss. In brackets the 95 %
interval of a bootstrap over patients; that of a difference is paired, both trainings being judged
on the same phantoms. A multiple of chance of 1 is what even attention over the whole input would
have.</p>
<p>Each training is of one seed, and the intervals say nothing of other seeds. The proper comparison
trains every kind of supervision and the baselines with several seeds each:<br>
<code>python -m bundles compare $bundle --overlay demo --datalist $datalist</code></p>
<h3>The same scans under both trainings</h3>
<p>Axial slices through the cancer, which the green box outlines. Colour shows attention of at
least ten times the average over the scan, on one scale for all; where a picture has none, the
attention lies in other slices, or nowhere in particular. The risk is that before calibration.</p>
<img alt="attention without and with supervision" src="$comparison">
<h3>The risk, and how often cancer was there</h3>
<p>The training $supervised on the $testing held-out synthetic phantoms. Calibration, fitted on the
validation phantoms, brings a network's risk nearer to the share of them with cancer; 0 is best for
both errors. Few phantoms make ECE larger than it is and a bootstrap more so, so it may lie below
its interval.</p>
$uncalibrated
$calibration
<img alt="predicted risk against how often cancer was there" src="$reliability">
$screening
<h3>The trainings</h3>
$curves
""")
SCREENING = Template("""<h4>If these phantoms were screened</h4>
<p>A scan is recalled if its calibrated risk is $threshold or more: the highest threshold that found
at least $sensitivity of the cancers among the validation phantoms. Expected among synthetic
phantoms; re-weighting keeps sensitivity and specificity and changes how rare cancer is.</p>
$table
""")


def attention_section(
    folder: Path, datalist: Path, runs: Mapping[str, Path], *, bundle: str
) -> str:
    """The section as HTML that holds its pictures.

    Args:
        folder: where ``comparison.png`` is written.
        datalist: the phantoms' datalist.
        runs: ``no_attention`` and ``attention`` to the folder of that training, evaluated and
            with predictions of some test scans with cancer.
        bundle: the one trained; its ``comparison.yaml`` has the measures.
    """
    evaluations = {
        name: _json(run / "evaluation" / "evaluation.json") for name, run in runs.items()
    }
    predictions = {TITLES[name]: run / "predictions" for name, run in runs.items()}
    shown = predicted_scans(predictions[TITLES[SUPERVISED]])
    testing = load_datalist(datalist, "testing")
    items = [item for item in testing if item["image"] in shown]
    draw_attention_comparison(items, predictions, folder / "comparison.png")
    plan = ComparisonPlan(
        arms={name: [] for name in runs},
        reference=REFERENCE,
        measures=comparison_plan(bundle).measures,
    )
    per_scan = {name: [run / "evaluation" / "per_scan.csv"] for name, run in runs.items()}
    measures = measured(plan, per_scan)
    curves = "\n".join(
        f"<h4>{TITLES[name]}</h4><img alt='curves' src='{embedded_picture(run / 'curves.png')}'>"
        for name, run in runs.items()
    )
    return SECTION.substitute(
        bundle=bundle,
        datalist=escape(shlex.quote(os.path.relpath(datalist, checkout_folder()))),
        training=len(load_datalist(datalist, "training")),
        testing=len(testing),
        positives=sum(item["risk"] for item in testing),
        differences=difference_table(measures, REFERENCE, TITLES),
        chance=_chance(measures["auroc"]["arms"]),
        comparison=embedded_picture(folder / "comparison.png"),
        **_calibration(evaluations),
        reliability=embedded_picture(runs[SUPERVISED] / "evaluation" / "reliability.png"),
        curves=curves,
    )


def _chance(aurocs: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence for each training whose AUROC may be a coin's."""
    return "".join(
        f"<p>The AUROC {TITLES[name]} cannot be told from chance, which is 0.5.</p>"
        for name, auroc in aurocs.items()
        if auroc["low"] is None or auroc["low"] <= 0.5 <= auroc["high"]
    )


def _calibration(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The page's parts about the supervised training's risk, and which trainings go without."""
    uncalibrated = "".join(
        f"<p>The training {TITLES[name]} has no calibration: that needs at least "
        f"{MIN_SCANS_PER_CLASS} validation phantoms with cancer and as many without, and a risk "
        "that is higher with cancer than without.</p>"
        for name, evaluation in evaluations.items()
        if not evaluation["calibrated"]
    )
    evaluation = evaluations[SUPERVISED]
    screening = evaluation["screening"]
    return {
        "supervised": TITLES[SUPERVISED],
        "uncalibrated": uncalibrated,
        "calibration": calibration_table(
            evaluation["metrics"], calibrated=evaluation["calibrated"]
        ),
        "screening": ""
        if screening is None
        else SCREENING.substitute(
            threshold=f"{screening['threshold']:.3f}",
            sensitivity=f"{100 * screening['target_sensitivity']:.0f} %",
            table=recall_table(screening),
        ),
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
