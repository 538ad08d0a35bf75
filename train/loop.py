"""The training loop of every stage: options, steps, validation, tracking, and states that resume exactly.

    out/config.json, model.safetensors     the model so far (written by the stage)
    out/state/                             weights, optimizer and step: what `resume` continues
    out/logs/                              the tracker's

It knows an objective (a module that maps a batch to losses) and endless batches. It does not know meshes.
"""

from __future__ import annotations

import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from meshgpt.checkpoint import load_into, replace_folder, tensors_of
from meshgpt.precision import fast_float32

STATE_WEIGHTS, STATE_REST = "weights.safetensors", "training.pt"


@dataclass(frozen=True)
class LoopOptions:
    """How long, how fast and where to."""

    steps: int = 20_000
    """Optimizer steps."""
    faces: int = 4_096
    """Padded faces in a batch."""
    accumulate: int = 1
    """Batches to an optimizer step."""
    learning_rate: float = 1e-3
    """At its highest, after the warm-up; a cosine brings it down to a hundredth."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """AdamW's, on matrices."""
    clip: float = 1.0
    """Longest gradient."""
    precision: str = "auto"
    """fp32 or bf16; auto takes bf16 on a GPU that has it."""
    seed: int = 0
    """Of everything that is random."""
    workers: int = 1
    """Processes that make batches; 0 makes them in the training process."""
    threads: int = 0
    """CPU threads of the training process; 0 leaves it to torch."""
    validate_every: int = 500
    """Steps between validations."""
    save_every: int = 500
    """Steps between saved states."""
    stop_after: int = 0
    """End this run after so many steps though the schedule goes on (0: run to the end); `--resume` continues it."""
    minutes: float = 0.0
    """End this run after so many minutes (0: no limit); `--resume` continues it."""
    resume: bool = False
    """Continue from OUT/state; losses are those of a run that was never stopped."""
    tracker: str = "tensorboard"
    """tensorboard, wandb, another tracker that accelerate knows, or none."""


def rate_at(step: int, options: LoopOptions) -> float:
    """Learning rate of a step: linear up, cosine down to 1 % (Loshchilov & Hutter 2017)."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    part = min(1.0, (step - options.warmup) / max(1, options.steps - options.warmup))
    return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


class Loop:
    """One run of one stage."""

    def __init__(self, objective: nn.Module, out: str | Path, options: LoopOptions) -> None:
        self.out, self.options = Path(out), options
        self._check_place()
        self.out.mkdir(parents=True, exist_ok=True)
        if options.threads:
            torch.set_num_threads(options.threads)
        fast_float32()
        precision = options.precision if options.precision != "auto" else _best_precision()
        self.accelerator = Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            gradient_accumulation_steps=options.accumulate,
            log_with=None if options.tracker == "none" else options.tracker,
            project_dir=str(self.out / "logs"),
        )
        self.raw = objective
        optimizer = _optimizer(objective, options, fused=self.accelerator.device.type == "cuda")
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.step = self._resume() if options.resume else 0
        self.stopped = False

    @property
    def skip(self) -> int:
        """Batches that earlier runs have used."""
        return self.step * self.options.accumulate

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def run(self, batches: Iterator[Any], validate: Callable[[], dict[str, float]], save: Callable[[Path], None]) -> dict[str, float]:
        """Train to the last step, to the time limit or to Ctrl-C; returns the last validation."""
        if self.options.tracker != "none":
            self.accelerator.init_trackers("meshgpt")
        last = min(self.options.steps, self.options.stop_after or self.options.steps)
        began, seen, measured = time.monotonic(), 0, {}
        with _Progress(self.accelerator.is_main_process, self.step, last) as progress, _stop_on_signal(self):
            while self.step < last and not self.stopped:
                losses, faces = self._one_step(batches)
                seen += faces * self.accelerator.num_processes
                self.step += 1
                progress.show(self.step, losses, seen / (time.monotonic() - began))
                if self.step % 20 == 0:
                    self._log({**losses, "learning_rate": rate_at(self.step - 1, self.options)})
                self.stopped |= bool(self.options.minutes) and time.monotonic() - began > 60 * self.options.minutes
                at_end = self.step == last or self.stopped
                if self.step % self.options.validate_every == 0 or at_end:
                    measured = self._validate(validate)
                    progress.note(self.step, measured)
                if self.step % self.options.save_every == 0 or at_end:
                    self._save(save)
        self.accelerator.end_training()
        return measured

    def _one_step(self, batches: Iterator[Any]) -> tuple[dict[str, float], int]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.options)
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        self.objective.train()
        total: dict[str, Tensor] = {}
        faces = 0
        for _ in range(self.options.accumulate):
            batch = next(batches)
            faces += batch.size
            with self.accelerator.accumulate(self.objective), self.accelerator.autocast():
                losses = self.objective(batch.to(self.device))
                self.accelerator.backward(losses["loss"])
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.objective.parameters(), self.options.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / self.options.accumulate
        values = {name: float(value) for name, value in total.items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(f"the loss is {values['loss']} at step {self.step}; lower --loop.learning-rate and resume")
        return values, faces

    def _validate(self, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        self.objective.eval()
        with torch.no_grad(), self.accelerator.autocast():
            measured = validate()
        self._log({f"validation/{name}": value for name, value in measured.items()})
        return measured

    def _log(self, values: dict[str, float]) -> None:
        if self.options.tracker != "none":
            self.accelerator.log(values, step=self.step)

    def _check_place(self) -> None:
        state = self.out / "state"
        if self.options.resume and not state.is_dir():
            raise FileNotFoundError(f"{self.out} holds no state to resume; leave --resume away to start there")
        if not self.options.resume and state.is_dir():
            raise FileExistsError(f"{self.out} holds a training run already; continue it with --resume, or choose another --out")

    def _save(self, save: Callable[[Path], None]) -> None:
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        save(self.out)
        beside = Path(tempfile.mkdtemp(prefix=".state-", dir=self.out))
        try:
            save_file({key: value.contiguous() for key, value in tensors_of(self.raw).items()}, beside / STATE_WEIGHTS)
            torch.save({"step": self.step, "optimizer": self.optimizer.state_dict()}, beside / STATE_REST)
            replace_folder(beside, self.out / "state")
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _resume(self) -> int:
        state = self.out / "state"
        load_into(self.raw, load_file(state / STATE_WEIGHTS), str(state))
        rest = torch.load(state / STATE_REST, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(rest["optimizer"])
        return int(rest["step"])


def _optimizer(objective: nn.Module, options: LoopOptions, fused: bool) -> torch.optim.Optimizer:
    learned = [weight for weight in objective.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learned if weight.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [weight for weight in learned if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=fused)


def _best_precision() -> str:
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


class _stop_on_signal:  # noqa: N801 - reads as a statement
    """The first Ctrl-C (or SIGTERM) ends the run after its step, with everything saved; the second one at once."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def __enter__(self) -> None:
        def stop(number: int, frame: object) -> None:
            self.loop.stopped = True
            signal.signal(number, self.before[number])

        self.before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class _Progress:
    """A bar where there is a terminal (and rich is installed), a line now and then where there is none."""

    EVERY_SECONDS = 30

    def __init__(self, visible: bool, step: int, last: int) -> None:
        self.visible, self.last, self.first = visible, last, step
        self.began, self.shown = time.monotonic(), 0.0
        self.bar = self._bar() if visible and sys.stderr.isatty() else None
        self.task = None if self.bar is None else self.bar.add_task("train", total=last, completed=step, values="")

    @staticmethod
    def _bar() -> Any:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            return None
        columns = [TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[values]}"), TimeRemainingColumn()]
        return Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> _Progress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, step: int, losses: dict[str, float], rate: float) -> None:
        values = f"{_listed(losses)}  {rate:,.0f} faces/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, values=values)
        elif time.monotonic() - self.shown > self.EVERY_SECONDS or step == self.last:
            self.shown = time.monotonic()
            left = (self.shown - self.began) / (step - self.first) * (self.last - step)
            self._print(f"step {step}/{self.last}  {values}  {left / 60:.0f} minutes left")

    def note(self, step: int, measured: dict[str, float]) -> None:
        self._print(f"step {step}  validation  {_listed(measured)}")

    def _print(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif self.visible:
            print(text, file=sys.stderr, flush=True)


def _listed(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
