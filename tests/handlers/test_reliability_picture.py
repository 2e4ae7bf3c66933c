from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from handlers import reliability_picture


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures as they are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self, *args, **settings):
        figures.append(self)
        save(self, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_points_counts_and_title(tmp_path, drawn):
    risks, labels = np.repeat([0.1, 0.4, 0.8], 8), np.array([0] * 8 + [1, 0] * 4 + [1] * 8)
    path = tmp_path / "reliability.png"
    reliability_picture(
        {"before": risks, "after": risks**2}, labels, np.ones(24), path=path, title="24 phantoms"
    )
    assert matplotlib.image.imread(path).shape[1] == 1040
    (figure,) = drawn
    assert figure.get_suptitle() == "24 phantoms"
    before, after = figure.axes
    # |.1 - 0|, |.4 - .5|, |.8 - 1| of a third of the scans each.
    assert before.get_title() == "before: Brier 0.103, ECE 0.133"
    for axes, places in ((before, [0.1, 0.4, 0.8]), (after, [0.01, 0.16, 0.64])):
        points = np.array(axes.containers[0][0].get_xydata())
        np.testing.assert_allclose(points, np.column_stack([places, [0, 0.5, 1]]))
        assert [text.get_text() for text in axes.texts] == ["8", "8", "8"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_scan(label, tmp_path):
    reliability_picture({"before": [0.3]}, [label], [1], path=tmp_path / "r.png", title="one scan")
    assert (tmp_path / "r.png").exists()
    assert len(list(tmp_path.iterdir())) == 1
