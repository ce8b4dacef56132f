"""What a run remembers between steps, how it is saved, and how it is taken up again."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tasks.training import checkpoint
from tasks.training.schedules import Schedule
from tasks.training.step import Stepper
from tasks.training.stopping import StoppingRule

logger = logging.getLogger(__name__)


@dataclass
class RunState:
    """The plain numbers of a run; all of it goes into the checkpoint's JSON."""

    epoch: int = 0  # of the next step
    step: int = 0  # of that epoch, the next one to run
    num_steps: int = 0  # since the run began
    loss_sum: float = 0.0  # of the steps of this epoch so far
    history: list[dict[str, Any]] = field(default_factory=list)
    best_score: float = -math.inf
    best_epoch: int = -1
    best_kind: str = "raw"  # raw | ema
    stopped: bool = False  # by the stopping rule


class Run:
    """A training run that can be killed between any two statements and continued from its last checkpoint.

    fingerprint: hash of all that its result follows from; a checkpoint with another one is not ours.
    """

    def __init__(
        self, stepper: Stepper, schedule: Schedule, stopping: StoppingRule, folder: Path, fingerprint: str
    ) -> None:
        self.stepper, self.schedule, self.stopping = stepper, schedule, stopping
        self.folder, self.fingerprint = folder, fingerprint
        self.now = RunState()

    def _best_path(self) -> Path:
        return self.folder / f"best-{self.now.best_epoch:04d}.safetensors"

    def finish_epoch(self, raw: float | None, ema: float | None) -> dict[str, Any]:
        """Note an epoch's scores (None: not measured), keep its weights when they are the best, move to the next.

        Returns the epoch's row of the history.
        """
        now, epoch = self.now, self.now.epoch
        lr = self.stepper.settings.lr * self.schedule.factor(now.num_steps - 1)  # of the epoch's last step
        row = {"epoch": epoch, "loss": now.loss_sum / now.step, "lr": lr, "val_raw": raw, "val_ema": ema}
        now.history.append(row)
        if raw is None:
            best, kind = -math.inf, "raw" if self.stepper.ema is None else "ema"
        else:
            # A score that is not a number (no positives to rank) never wins; raw wins a tie, a later epoch too.
            measured = {"raw": raw} if ema is None else {"raw": raw, "ema": ema}
            measured = {k: -math.inf if math.isnan(score) else score for k, score in measured.items()}
            kind = max(measured, key=measured.get)
            best = measured[kind]
        if best >= now.best_score:
            now.best_score, now.best_epoch, now.best_kind = best, epoch, kind
            self._save_weights()
        if raw is not None:
            self.schedule.observe(best)
            now.stopped = self.stopping.observe(best, rising=self.schedule.rising(now.num_steps))
        now.epoch, now.step, now.loss_sum = epoch + 1, 0, 0.0
        return row

    def _save_weights(self) -> None:
        if self.stepper.world.is_main:
            parts = {"raw": self.stepper.model.state_dict()}
            if self.stepper.ema is not None:
                parts["ema"] = self.stepper.ema.module.state_dict()
            checkpoint.write(self._best_path(), parts, {"fingerprint": self.fingerprint})

    def best_weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Raw and EMA state of the best epoch, on the CPU; None without EMA."""
        best = checkpoint.read(self._best_path())
        assert best is not None, self._best_path()
        return best.part("raw"), best.part("ema") or None

    def save(self) -> None:
        """Write the latest checkpoint; the first process does."""
        if not self.stepper.world.is_main:
            return
        stepper = self.stepper
        parts = {
            "model": stepper.model.state_dict(),
            "loss": stepper.loss.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(stepper.optimizer),
        }
        state = {
            "fingerprint": self.fingerprint,
            "now": asdict(self.now),
            "scaler": stepper.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
            "stopping": asdict(self.stopping),
        }
        if stepper.semi is not None:
            parts["semi"] = stepper.semi.state_dict()
            parts["semi_memory"] = stepper.semi.memory
        if stepper.ema is not None:
            parts["ema"] = stepper.ema.module.state_dict()
            state["ema_updates"] = stepper.ema.num_updates
        checkpoint.write(self.folder / checkpoint.LATEST, parts, state)
        for path in self.folder.glob("best-*.safetensors"):
            if path != self._best_path():
                path.unlink()

    def resume(self) -> None:
        """Continue from the latest checkpoint of this very run; do nothing when there is none."""
        saved = checkpoint.read_latest(self.folder, fingerprint=self.fingerprint)
        if saved is None:
            return
        self.now = RunState(**saved.state["now"])
        if self.now.history and checkpoint.read(self._best_path()) is None:
            logger.warning("%s is missing or damaged beside its checkpoint; training starts anew", self._best_path())
            self.now = RunState()
            return
        stepper, state = self.stepper, saved.state
        stepper.model.load_state_dict(saved.part("model"))
        stepper.loss.load_state_dict(saved.part("loss"))
        if stepper.semi is not None:
            stepper.semi.load_state_dict(saved.part("semi"))
            stepper.semi.memory.update(saved.part("semi_memory"))
        checkpoint.restore_optimizer(stepper.optimizer, saved.part("optimizer"))
        if state["scaler"]:
            stepper.scaler.load_state_dict(state["scaler"])
        if stepper.ema is not None:
            stepper.ema.module.load_state_dict(saved.part("ema"))
            stepper.ema.num_updates = state["ema_updates"]
        self.schedule.load_state_dict(state["schedule"])
        self.stopping = type(self.stopping)(**state["stopping"])
        logger.info("continuing from %s: epoch %d, step %d", self.folder, self.now.epoch, self.now.step)
