"""Whether a training will leave any weights."""

from __future__ import annotations


def check_epochs(max_epochs: int, val_interval: int) -> None:
    """Refuses a training without a validation, which would write no ``model.pt``.

    Raises:
        ValueError: fewer epochs than lie between two validations.
    """
    if max_epochs < val_interval:
        raise ValueError(
            "max_epochs must be at least val_interval, since only a validated epoch's weights "
            f"become model.pt, got {max_epochs} and {val_interval}"
        )
