"""The MLflow run of a search, in which those of its trials are nested."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from handlers.mlflow_run import MlflowRun
from handlers.mlflow_store import store_uri

logger = logging.getLogger(__name__)


class SearchTracking:
    """One run in the MLflow store for all the times that a search goes on.

    Where the store stops answering, the search goes on all the same.

    Args:
        experiment_name: that of the trials.
        name: of the run.
        params: logged when the run is made.
        earlier: `address` of the run when the search began, empty where it begins now.
    """

    def __init__(
        self,
        experiment_name: str,
        *,
        name: str,
        params: Mapping[str, Any],
        earlier: Mapping[str, str],
    ) -> None:
        run = self._taken_up(experiment_name, name, earlier)
        if run is None:
            run = MlflowRun(experiment_name, name=name, tracking_uri=store_uri())
            self._try(run.log_params, params)
        self._run = run
        self.address = {"uri": self._run.tracking_uri, "run_id": self._run.entity.info.run_id}

    @property
    def trial_tags(self) -> dict[str, str]:
        """What nests a trial's run in this one."""
        return {MLFLOW_PARENT_RUN_ID: self.address["run_id"]}

    def log(self, values: Mapping[str, float], trial: int) -> None:
        """Log the values of a trial, with its number as the step."""
        self._try(self._run.log_metrics, values, trial)

    def end(self, status: str, artifacts: Sequence[Path]) -> None:
        """Copy the files and close the run as FINISHED, FAILED or KILLED."""
        self._try(self._run.log_artifacts, artifacts)
        self._try(self._run.end, status)

    def _taken_up(
        self, experiment_name: str, name: str, earlier: Mapping[str, str]
    ) -> MlflowRun | None:
        if not earlier:
            return None
        uri, run_id = earlier["uri"], earlier["run_id"]
        try:
            return MlflowRun(experiment_name, name=name, tracking_uri=uri, run_id=run_id)
        except MlflowException as error:
            reason = str(error).partition("\n")[0]
            logger.warning(
                "MLflow run %s cannot be taken up, a new one is made: %s", run_id, reason
            )
            return None

    def _try(self, write: Callable[..., None], *values: Any) -> None:
        try:
            write(*values)
        except (MlflowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            logger.warning("MLflow takes no values now, the search goes on: %s", reason)
