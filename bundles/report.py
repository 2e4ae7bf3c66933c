"""The demo's page: what the bundles did on the phantoms, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

from bundles.embedded_picture import embedded_picture

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Locus demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
img { max-width: 100%; } table { border-collapse: collapse; }
td, th { padding: .3em 1em; border-bottom: 1px solid #ccc; text-align: left; }
.note { background: #fff3cd; padding: .6em 1em; }
</style></head><body>
<h1>Networks that say where</h1>
<p class="note"><b>Synthetic phantoms, not patients.</b> Research use only. The numbers show that
the machinery works; they say nothing about a clinical task.</p>
<p>The bundles climb one ladder of supervision over the same scans and the same annotations:
attention that is taught where to look, boxes that a detector draws, voxels that a UNet labels.</p>
$sections
<h2>The phantoms</h2>
<img alt="phantom gallery" src="$gallery">
<h2>Go on</h2>
<p><code>make mlflow</code> shows all runs with their curves, parameters and weights. The last
training of a bundle is applied to a scan of yours by</p>
$commands
</body></html>
""")


def write_report(folder: Path, sections: Sequence[str], *, bundles: Sequence[str]) -> Path:
    """Write ``index.html``, which holds its pictures, and return its path.

    Args:
        folder: where the page goes; ``gallery.png`` lies there already.
        sections: the HTML of each bundle.
        bundles: those trained.
    """
    commands = "".join(
        f"<p><code>make predict BUNDLE={bundle} SCAN=your/scan.nii.gz OUT=results</code></p>"
        for bundle in bundles
    )
    page = folder / "index.html"
    page.write_text(
        PAGE.substitute(
            sections="\n".join(sections),
            gallery=embedded_picture(folder / "gallery.png"),
            commands=commands,
        ),
        encoding="utf-8",
    )
    return page
