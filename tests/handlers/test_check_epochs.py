from __future__ import annotations

from pathlib import Path

import pytest

from bundles.__main__ import main
from bundles.bundle_config import bundle_names
from handlers import check_epochs


def test_a_training_must_reach_a_validation() -> None:
    check_epochs(max_epochs=2, val_interval=2)
    with pytest.raises(ValueError, match=r"max_epochs must be at least val_interval.* got 1 and 2"):
        check_epochs(max_epochs=1, val_interval=2)


@pytest.mark.parametrize("bundle", bundle_names())
def test_every_bundle_says_so_before_it_reads_a_scan(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["max_epochs=1", "val_interval=2", f"run_dir={tmp_path / 'run'}"]
    train = ["train", bundle, "--datalist", str(tmp_path / "none.json")]
    assert main([*train, *(part for setting in settings for part in ("--set", setting))]) == 1
    assert "error: max_epochs must be at least val_interval" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
