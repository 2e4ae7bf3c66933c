"""The demo's page: pictures and numbers of two trainings, in one HTML file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from bundles.attention_comparison import draw_attention_comparison
from cohorts import load_datalist

TITLES = {"no_attention": "without supervision", "attention": "with supervision"}
MEASURES = {
    "auroc": "AUROC",
    "attention_mass": "attention inside the lesion",
    "attention_mass_over_chance": "the same, as a multiple of chance",
    "hit_rate": "attention's peak is in the lesion",
}
PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Locus demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
img { max-width: 100%; } table { border-collapse: collapse; }
td, th { padding: .3em 1em; border-bottom: 1px solid #ccc; text-align: left; }
.note { background: #fff3cd; padding: .6em 1em; }
</style></head><body>
<h1>Where the network looked</h1>
<p class="note"><b>Synthetic phantoms, not patients.</b> Research use only. The numbers show that
the machinery works; they say nothing about a clinical task.</p>
<p>One network was trained twice on the same $training phantom scans: once on the risk alone, once
also told where to look, by the loss &minus;log&nbsp;&Sigma;&nbsp;&alpha;&middot;A* on its
attention.
Both are judged on $testing other phantoms, $positives of them with a malignant nodule.</p>
<h2>On held-out phantoms</h2>
$table
$chance
<p>Each training keeps the epoch of its own smallest validation loss. In brackets the 95 %
interval of a bootstrap over patients. A multiple of chance of 1 is what
even attention over the whole input would have.</p>
<h2>The same scans under both trainings</h2>
<p>Axial slices through the cancer, which the green box outlines. Colour shows attention of at
least ten times the average over the scan, on one scale for all; where a picture has none, the
attention lies in other slices, or nowhere in particular.</p>
<img alt="attention without and with supervision" src="$comparison">
<h2>The phantoms</h2>
<img alt="phantom gallery" src="$gallery">
<h2>The trainings</h2>
$curves
<h2>Go on</h2>
<p><code>make mlflow</code> shows both runs with all their curves, parameters and weights.<br>
<code>make predict BUNDLE=lung_ct_cancer_risk SCAN=your/scan.nii.gz OUT=results</code> applies the
last one to a scan of yours.</p>
</body></html>
""")


def write_report(folder: Path, datalist: Path, runs: Mapping[str, Path]) -> Path:
    """Write ``index.html``, which holds its pictures, and return its path.

    Args:
        folder: where the page goes; ``gallery.png`` lies there already.
        datalist: the phantoms' datalist.
        runs: ``no_attention`` and ``attention`` to the folder of that training, evaluated and
            with predictions of some test scans.
    """
    evaluations = {
        name: _json(run / "evaluation" / "evaluation.json") for name, run in runs.items()
    }
    predictions = {TITLES[name]: run / "predictions" for name, run in runs.items()}
    shown = {
        scan["scan"]
        for scan in _json(runs["attention"] / "predictions" / "predictions.json")["scans"]
    }
    testing = load_datalist(datalist, "testing")
    items = [item for item in testing if item["image"] in shown]
    draw_attention_comparison(items, predictions, folder / "comparison.png")
    curves = "\n".join(
        f"<h3>{TITLES[name]}</h3><img alt='curves' src='{_embedded(run / 'curves.png')}'>"
        for name, run in runs.items()
    )
    page = folder / "index.html"
    page.write_text(
        PAGE.substitute(
            training=len(load_datalist(datalist, "training")),
            testing=len(testing),
            positives=sum(item["risk"] for item in testing),
            table=_table(evaluations),
            chance=_chance(evaluations),
            comparison=_embedded(folder / "comparison.png"),
            gallery=_embedded(folder / "gallery.png"),
            curves=curves,
        ),
        encoding="utf-8",
    )
    return page


def _table(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{TITLES[name]}</th>" for name in evaluations)
    rows = [f"<tr><th></th>{head}</tr>"]
    for measure, title in MEASURES.items():
        cells = "".join(
            f"<td>{_cell(evaluation['metrics'], measure)}</td>"
            for evaluation in evaluations.values()
        )
        rows.append(f"<tr><td>{title}</td>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _chance(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence for each training whose AUROC may be a coin's."""
    return "".join(
        f"<p>The AUROC {TITLES[name]} cannot be told from chance, which is 0.5.</p>"
        for name, evaluation in evaluations.items()
        if (evaluation["metrics"].get("auroc_low") or 0) <= 0.5
    )


def _cell(metrics: Mapping[str, float | None], measure: str) -> str:
    value = metrics.get(measure)
    if value is None:
        return "not measured"
    low, high = metrics.get(f"{measure}_low"), metrics.get(f"{measure}_high")
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{value:.3f}{interval}"


def _embedded(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
