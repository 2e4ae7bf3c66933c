"""An engine tracked by MLflow."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from mlflow.exceptions import MlflowException
from monai.engines import Evaluator, Trainer
from monai.handlers import MLFlowHandler

from handlers.finite_scalars import finite_scalars
from handlers.hear_exception import hear_exception
from handlers.mlflow_run import MlflowRun, check_server
from handlers.mlflow_store import store_uri

logger = logging.getLogger(__name__)

# One iteration's values cost about 20 ms of a core in SQLite, and two waits for the disk.
ITERATION_PAUSE_S = 1.0


class MlflowTracking:
    """Track one training, or one evaluation, as one MLflow run with a name of its own.

    The run holds the metrics of the engine and of its evaluator, where it has one under
    ``train_<name>`` and ``val_<name>`` (the evaluator's at the trainer's epoch), the best key
    metric, the loss and learning rate of an iteration once a second, parameters, git commit,
    package versions, and at the end the artifacts. A training that goes on once it had ended, as
    in the rounds of a federated one, goes on in its run.
    MONAI's `MLFlowHandler` writes the iterations; the run itself is made here, since that class
    finds its run by name and so mixes up two trainings.

    The run ends FINISHED; FAILED, with the tag `error`, where an exception ended the engine; KILLED
    after Ctrl-C. The exception then goes on to the engine's other handlers and out. This handler
    may stand anywhere in the list, but `CheckpointSaver` must stand before `StatsHandler`: either
    raises the exception again, and Ignite skips the handlers after the one that does.

    A server that does not answer never stops a training: at the start the run goes to the local
    store instead; later, what cannot be written is left out. One line of the log tells either.
    In a distributed run rank 0 alone tracks.

    Args:
        experiment_name: MLflow experiment, commonly the bundle's name.
        evaluator: the engine that validates during the training.
        run_name: None for `<experiment_name>-<date>-<time>-<4 hex digits>`.
        tracking_uri: the store; None for `MLFLOW_TRACKING_URI`, else the local store.
        params: logged at the start as text.
        data_list: the datalist, whose SHA-256 is a parameter ``data_list_sha256``.
        tags: of the run, such as ``mlflow.parentRunId`` of one that is nested in another.
        artifacts: files and folders copied into the run when it ends.
        output_transform: from the trainer's output to the loss, or to a mapping of named terms,
            logged once a second; None for the output's `loss`.

    Raises:
        ValueError: a `tracking_uri` that is neither a database nor a server.
    """

    def __init__(
        self,
        experiment_name: str,
        *,
        evaluator: Evaluator | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        params: Mapping[str, Any] | None = None,
        data_list: str | Path | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[str | Path] = (),
        output_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.experiment_name = experiment_name
        self.evaluator = evaluator
        self.run_name = run_name
        self.tracking_uri = store_uri(tracking_uri)
        self.params = dict(params or {})
        self.data_list = data_list
        self.tags = dict(tags or {})
        self.artifacts = [Path(artifact) for artifact in artifacts]
        self.output_transform = output_transform or _loss
        self._run: MlflowRun | None = None
        self._completed: MlflowRun | None = None
        self._logs: dict[Engine, MLFlowHandler] = {}
        self._store = self.tracking_uri
        self._answering = True
        self._next_iteration_log = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with the engine whose run this is; nothing is written before it starts."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log_epoch)
        if isinstance(engine, Trainer):
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_iteration)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._log_epoch)

    def _start(self, engine: Engine) -> None:
        going_on = isinstance(engine, Trainer) and engine.state.epoch > 0
        before, self._completed = self._completed, None
        if going_on and before is not None:
            self._run = run = before
            self._try(run.reopen)
        else:
            self._run = run = self._new_run()
            self._store, self._answering = run.tracking_uri, True
            self._try(run.log_params, self.params | self._data_hash())
        self._next_iteration_log = 0.0
        hear_exception(engine, self._fail)
        engines = [engine] if self.evaluator is None else [engine, self.evaluator]
        self._logs = {each: self._log_of(each, trainer=engine, run=run) for each in engines}
        self._try(self._logs[engine].start, engine)
        # Registered only now, and so behind all that the configuration lists: whatever they write
        # at the end is there to be copied.
        if not engine.has_event_handler(self._complete, Events.COMPLETED):
            engine.add_event_handler(Events.COMPLETED, self._complete)

    def _new_run(self) -> MlflowRun:
        return MlflowRun(
            self.experiment_name,
            name=self.run_name,
            tracking_uri=self.tracking_uri,
            tags=self.tags,
        )

    def _data_hash(self) -> dict[str, str]:
        if self.data_list is None:
            return {}
        return {"data_list_sha256": hashlib.sha256(Path(self.data_list).read_bytes()).hexdigest()}

    def _log_of(self, engine: Engine, *, trainer: Engine, run: MlflowRun) -> MLFlowHandler:
        """MONAI's writer for one engine, bound to this run instead of finding one by name."""

        def log_epoch(engine: Engine) -> None:
            run.log_metrics(self._epoch_values(engine, trainer), step=trainer.state.epoch)

        log = MLFlowHandler(
            tracking_uri=run.tracking_uri,
            experiment_name=self.experiment_name,
            output_transform=self._iteration_values,
            epoch_logger=log_epoch,
        )
        log.client = run.client
        log.experiment = run.experiment  # type: ignore[assignment]
        log.cur_run = run.entity  # type: ignore[assignment]
        return log

    def _epoch_values(self, engine: Engine, trainer: Engine) -> dict[str, float]:
        """An engine's metrics; both engines may call theirs alike, so the phase stands before."""
        phase = "" if self.evaluator is None else "train_" if engine is trainer else "val_"
        values = {
            name if name.startswith(phase) else phase + name: value
            for name, value in finite_scalars(engine.state.metrics).items()
            if value is not None
        }
        state: Any = engine.state
        decides = engine is (self.evaluator or trainer)
        if decides and getattr(state, "key_metric_name", None) is not None:
            values["best_metric"] = state.best_metric
            values["best_metric_epoch"] = state.best_metric_epoch
        return values

    def _iteration_values(self, output: Any) -> dict[str, float]:
        values = self.output_transform(output)
        if not isinstance(values, Mapping):
            values = {"iteration_loss": values}
        return {
            name: float(value.detach() if isinstance(value, torch.Tensor) else value)
            for name, value in values.items()
        }

    def _log_iteration(self, engine: Engine) -> None:
        now = time.monotonic()
        if not self._answering or now < self._next_iteration_log:
            return  # where the store is away, each iteration would wait for its time limit
        self._try(self._logs[engine].iteration_completed, engine)
        self._next_iteration_log = now + ITERATION_PAUSE_S

    def _log_epoch(self, engine: Engine) -> None:
        if engine in self._logs:  # an evaluator may also run before or after the training
            self._answering = self._try(self._logs[engine].epoch_completed, engine)

    def _complete(self, _engine: Engine) -> None:
        run = self._run
        if run is not None:
            self._try(run.log_artifacts, self.artifacts)
            self._end("FINISHED")
            self._completed = run

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        """Record the outcome; Ignite may call this twice for one exception."""
        run = self._run
        if run is None:
            return
        self._end("FAILED" if isinstance(error, Exception) else "KILLED", error)
        self._try(run.log_artifacts, self.artifacts)

    def _end(self, status: str, error: BaseException | None = None) -> None:
        if self._run is not None:
            self._try(self._run.end, status, error)
        self._run, self._logs = None, {}

    def _try(self, write: Callable[..., None], *values: Any) -> bool:
        """Write to the store; where that fails the training goes on, and the log says so once.

        An epoch's values are tried again, the iterations' only after an epoch's went through.
        """
        try:
            if not self._answering:
                check_server(self._store)  # in seconds, where a write would take its time limit
            write(*values)
        except (MlflowException, OSError) as error:
            if self._answering:
                reason = str(error).partition("\n")[0]
                logger.warning("MLflow takes no values now, the run goes on: %s", reason)
            self._answering = False
            return False
        return True


def _loss(output: Any) -> Any:
    """The loss of an iteration, from an engine with `decollate` on (a list) or off."""
    return (output[0] if isinstance(output, list) else output)["loss"]
