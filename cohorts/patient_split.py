"""The split of a patient, whichever scans of theirs are there."""

from __future__ import annotations

import hashlib


def patient_split(patient_id: str) -> str:
    """``training`` (70 %), ``validation`` (15 %) or ``testing`` (15 %) by a hash of the patient.

    All scans of a patient fall into one split, and a patient stays in it when others are added.
    """
    step = int(hashlib.sha256(patient_id.encode()).hexdigest()[:8], 16) % 100
    if step < 70:
        return "training"
    return "validation" if step < 85 else "testing"
