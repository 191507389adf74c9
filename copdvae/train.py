"""Train one method with one seed: from ingested subjects and a phenotype table to a run's folder.

runs/ID/config.yaml             the run's whole configuration
runs/ID/log.csv                 losses, terms and their gradients' norms, by step
runs/ID/checkpoint.safetensors  everything that resuming needs, newest step
runs/ID/weights.safetensors     the weights that are used: best on validation subjects
runs/ID/run.json                versions, times, what was chosen, alarms; its presence says that the run is complete
"""

import fcntl
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import yaml
from pydantic import Field, model_validator
from torch.distributions import Normal

from copdvae import __version__, processes
from copdvae.batches import Batches, Prefetch
from copdvae.checkpoint import load_checkpoint, save_checkpoint
from copdvae.collapse import nothing_told, pairs_at_chance
from copdvae.config import Config, read_yaml
from copdvae.dataset import AugmentConfig, InputConfig, Subjects
from copdvae.errors import ConfigError, CopdvaeError, Stopped
from copdvae.files import digest_of, sweep, write_csv, write_json, write_text
from copdvae.loop import Every, step_seed, train
from copdvae.networks import VAE, NetworkConfig
from copdvae.objectives import Batch, Method, Objective, Stream
from copdvae.supervision.groups import GroupTable, group_table
from copdvae.supervision.labels import GOLD_CLASSES, LabelsConfig, class_numbers, fit_labels, keep_fraction
from copdvae.supervision.pairs import PairTable, label_pairs
from copdvae.supervision.similarity import Scaler, SimilarityConfig, fit_similarity, measures_of

VALIDATION_BATCH = 64
DETERMINISTIC = True  # of cuDNN: without it float32 steps differ from one time to the next, and so do resumed runs
THREADS = 3  # that make batches for a GPU, which one does not feed; on the CPU they would take its cores from training
FEWEST = 5  # validation subjects, from which it can be seen whether a code tells subjects apart; training subjects where there are fewer


class TrainConfig(Config):
    """How long, how fast, on what."""

    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=16, ge=2)
    lr: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"  # cosine: up over the first 5 % of the steps, then down to 1 % of lr
    weight_decay: float = Field(default=0.0, ge=0)
    log_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=100, ge=1)  # a checkpoint, and a look at the validation subjects
    keep: Literal["best", "last"] = "best"  # weights that are used: best on validation subjects, or the last step's
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1"
    bf16: Literal["auto", "on", "off"] = "auto"  # autocast; auto: where a GPU has it
    threads: int = Field(default=0, ge=0)  # of the CPU; 0: torch's own choice

    def rate(self, step: int) -> float:
        """The share of `lr` at a step."""
        if self.schedule == "constant":
            return 1.0
        warm = max(1, self.steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


class RunConfig(Config):
    """Everything that makes one run what it is, its data's hash included: the same configuration is the same run."""

    study: str
    data: str  # hash of index.csv, split.csv and the labels that may be used
    seed: int = Field(ge=0)
    grid: int  # voxels a side of the cube that ingest cuts
    input: InputConfig = InputConfig()
    network: NetworkConfig = NetworkConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    targets: tuple[str, ...] = (
        "fev1_pp",
        "emphysema_pct",
        "gas_trapping_pct",
        "gold",
    )  # of a method that is told them; the last is a class
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    method: Method

    @property
    def id(self) -> str:
        machine = {"device", "bf16", "threads"}  # where a run was computed is no part of what it is
        plain = self.plain()
        plain["train"] = {key: value for key, value in plain["train"].items() if key not in machine}
        return f"{self.method.name}-s{self.seed}-{digest_of(yaml.safe_dump(plain))[:8]}"

    @model_validator(mode="after")
    def _room(self) -> "RunConfig":
        misfit = self.method.misfit(self.network.u, self.network.v)
        if misfit:
            raise ValueError(f"network: {self.method.name}: {misfit}, found u = {self.network.u}, v = {self.network.v}")
        needed = len(self.targets) - 1 + getattr(self.method, "classes", 0) if self.method.readout == "direct" else self.network.u
        if self.network.u + self.network.v < needed:
            raise ValueError(f"network: {self.method.name} needs {needed} latents, u + v are {self.network.u + self.network.v}")
        return self


@dataclass(frozen=True)
class Cohort:
    """What training may know: images of all subjects, labels of training and validation subjects, nothing of the test."""

    subjects: Subjects
    split: pd.Series  # indexed by subject_id: "train", "validation", "test"
    labels: pd.DataFrame  # indexed by subject_id; measures and targets, training and validation subjects only

    def rows(self, part: str) -> np.ndarray:
        return np.flatnonzero(self.split.reindex(self.subjects.ids) == part)

    def table(self, rows: np.ndarray) -> pd.DataFrame:
        return self.labels.reindex(self.subjects.ids[rows])


def train_run(cohort: Cohort, config: RunConfig, runs: Path, show: Callable[[str], None], stop: Callable[[], bool] = lambda: False) -> Path:
    """Train, or go on training, the run of `config`; return its folder. Nothing is done where the run is complete already."""
    folder = runs / config.id
    folder.mkdir(parents=True, exist_ok=True)
    first = processes.rank() == 0  # holds the folder for all, says whether there is anything to do, and writes
    with only_one(folder / ".lock") if first else nullcontext():
        if first:
            sweep(folder)
        if processes.anywhere(first and not (folder / "run.json").is_file()):
            if first:
                write_text(folder / "config.yaml", yaml.safe_dump(config.plain(), sort_keys=False))
            Run(cohort, config, folder, show).train(stop)
    return folder


class Run:
    """A run in the making: its network, its batches and its files."""

    def __init__(self, cohort: Cohort, config: RunConfig, folder: Path, show: Callable[[str], None] = print):
        self.cohort, self.config, self.folder, self.show = cohort, config, folder, show
        self.device = choose_device(config.train.device)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        torch.manual_seed(step_seed(config.seed, 2**30))  # the weights to begin with
        self.net, self.objective = build(config, cohort.subjects.image.shape[1:])
        self.best: dict[str, float] = {}
        self.log = Log(folder / "log.csv")
        train_rows, validation_rows = cohort.rows("train"), cohort.rows("validation")
        if len(train_rows) < 2:
            raise ConfigError(f"{len(train_rows)} training subjects with an ingested scan; see split.csv and cache/index.csv")
        self.batches = self.batches_of(train_rows, train_rows, config.similarity.proportion, training=True)
        self.validation = (
            self.batches_of(validation_rows, train_rows, 1.0, training=False).whole(VALIDATION_BATCH) if len(validation_rows) else []
        )

    def batches_of(self, rows: np.ndarray, fit_on: np.ndarray, proportion: float, training: bool) -> Batches:
        """Batches of subjects with what the method is told about them, and the further batches that a step of it takes."""
        needs = self.config.method.needs
        also = {
            stream: self.stream(stream, number, rows, fit_on, proportion, training, {})
            for number, stream in enumerate(self.config.method.also, start=1)
        }
        return self.stream(needs, 0, rows, fit_on, proportion, training, also)

    def stream(
        self, needs: Stream, number: int, rows: np.ndarray, fit_on: np.ndarray, proportion: float, training: bool, also: dict[str, Batches]
    ) -> Batches:
        """Batches of one kind. Scalers, sigma and bins come from `fit_on`, training subjects; of them alone a fraction may be told."""
        config, method = self.config, self.config.method
        table, fitted_on = self.cohort.table(rows), self.cohort.table(fit_on)
        pairs: PairTable | None = None
        labels: np.ndarray | None = None
        groups: GroupTable | None = None
        if needs == "pair":
            told = config.similarity if training else config.similarity.model_copy(update={"noise": 0.0})
            similarity = fit_similarity(measures_of(fitted_on, told), told)
            rng = np.random.default_rng([config.seed, 3])
            pairs = label_pairs(measures_of(table, told), similarity, proportion, rng)
            labels = method.place(pairs, len(rows), config.network.u, config.seed) if training else None
        if needs == "label":
            settings: LabelsConfig | None = getattr(method, "labels", None)
            if settings is None:
                labels = target_labels(table, fitted_on, config.targets)
            else:
                labels = fit_labels(fitted_on, settings).of(table)
                if training and (number or settings.fraction < 1):  # where all subjects are told, one of two labels is told as well
                    if np.isnan(labels).any(axis=1).all():
                        raise ConfigError(f"labels.columns: no training subject has all of {', '.join(settings.columns)}")
                    labels = keep_fraction(labels, settings.fraction, np.random.default_rng([config.seed, 4]))
            if number:  # a batch beside the main one holds labelled subjects only
                known = np.flatnonzero(~np.isnan(labels).any(axis=1))
                rows, labels = rows[known], labels[known]
        if needs == "group":
            groups = group_table(table, getattr(method, "groups"), training)  # noqa: B009  the methods that need groups have it
        return Batches(
            self.cohort.subjects,
            rows,
            config.train.batch,
            config.seed,
            needs,
            config.augment,
            pairs,
            labels,
            groups,
            also,
            number,
            method.pairs_apart,
        )

    def train(self, stop: Callable[[], bool]) -> None:
        config, begun = self.config.train, time.perf_counter()
        rank, count = processes.rank(), processes.count()  # each process takes its own batch of the step
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            torch.backends.cudnn.deterministic = DETERMINISTIC
        batches = Prefetch(lambda step: self.batches(step * count + rank), pin=on_gpu, threads=THREADS if on_gpu else 1)
        parent = os.getppid()

        def stop_or_orphaned() -> bool:
            return stop() or os.getppid() != parent  # whoever started this process is gone, and may have started another

        try:
            times = train(
                self.net, self.objective, batches,
                lr=config.lr, weight_decay=config.weight_decay, schedule=config.rate, steps=config.steps, seed=self.config.seed,
                every=Every(config.log_every, config.save_every), log=self.log_step, save=self.save, restore=self.restore,
                stop=stop_or_orphaned, device=self.device, bf16=use_bf16(config.bf16, self.device),
            )  # fmt: skip
        finally:
            batches.close()
        if rank:
            return
        if config.keep == "best" and self.best:
            load_checkpoint(self.folder / "weights.safetensors", {"net": self.net, "objective": self.objective})
        write_json(self.folder / "run.json", self.facts() | times | {"seconds": round(time.perf_counter() - begun, 1)})

    def log_step(self, step: int, values: dict[str, float]) -> None:
        if processes.rank():
            return
        self.log.add(step, values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.show(f"{self.config.method.name} seed {self.config.seed}  step {step}/{self.config.train.steps}  {shown}")

    def save(self, step: int, optimizers: dict[str, torch.optim.Optimizer]) -> None:
        """Write a checkpoint. Where one is due, look at the validation subjects, and keep the weights if they never did better."""
        if processes.rank():
            return
        modules, plan = {"net": self.net, "objective": self.objective}, self.config.train
        if step % plan.save_every == 0 or step == plan.steps:  # a stop in between leaves no trace in what is logged and kept
            values = self.validate(step)
            score = values["validation_" + self.config.method.selects_by] if values else None  # without validation subjects: the last ones
            self.log.add(step - 1, values)
            if plan.keep == "last" or score is None or score < self.best.get("score", float("inf")):
                self.best = {"step": step} | ({} if score is None else {"score": score})
                save_checkpoint(self.folder / "weights.safetensors", modules, {}, self.best)
        self.log.write()
        save_checkpoint(self.folder / "checkpoint.safetensors", modules, optimizers, {"step": step, "best": self.best})

    def restore(self, optimizers: dict[str, torch.optim.Optimizer]) -> int:
        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            return 0
        facts = load_checkpoint(path, {"net": self.net, "objective": self.objective}, optimizers)
        if not isinstance(facts.get("step"), int) or not isinstance(facts.get("best"), dict):
            raise CopdvaeError(f"{path.name}: says no step and no best score; delete it to train again from the start")
        self.best = facts["best"]
        self.log.cut(facts["step"])
        return facts["step"]

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:
        """Losses of the validation subjects, mean over batches; the noise is the same at every look."""
        if not self.validation:
            return {}
        self.net.eval()
        torch.manual_seed(step_seed(self.config.seed, 2**31))
        sums: dict[str, float] = {}
        for batch in self.validation:
            losses = self.objective(self.net, batch.to(self.device), step)
            for name, value in ({"loss": losses.by_player["model"]} | losses.logs).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch.image)
        count = sum(len(batch.image) for batch in self.validation)
        self.net.train()
        return {f"validation_{name}": total / count for name, total in sums.items()}

    def facts(self) -> dict[str, Any]:
        config = self.config
        return {
            "study": config.study, "method": config.method.method, "label": config.method.name, "seed": config.seed, "id": config.id,
            "readout": config.method.readout, "told": config.method.told, "leaks": config.method.leaks,
            "grid": config.grid,
            "shape": list(self.cohort.subjects.image.shape[1:]), "u": config.network.u, "latents": config.network.u + config.network.v,
            "best": self.best, "collapse": self.collapse(), "parameters": sum(p.numel() for p in self.net.parameters()),
            "subjects": {part: len(self.cohort.rows(part)) for part in ("train", "validation", "test")},
            "pairs": len(self.batches.pairs) if self.batches.pairs is not None else None,
            "labels": self.told_labels(), "data": config.data, "config": digest_of(yaml.safe_dump(config.plain())), "version": __version__,
            "device": device_name(self.device), "processes": processes.count(),
            "torch": torch.__version__, "python": platform.python_version(), "last_log": self.log.last(),
        }  # fmt: skip

    def told_labels(self) -> dict[str, Any] | None:
        """How columns become the labels that the method is told, and how it says a subject's own: what scoring these needs.

        `inferred`: "u", one a label; "logit", one a label in [0, 1]; "classes", by the class probabilities in latents.parquet; or None.
        """
        settings: LabelsConfig | None = getattr(self.config.method, "labels", None)
        if settings is None:
            return None
        kinds: dict[str | None, str] = {"l2": "u", "cross_entropy": "logit"}
        classes = "classes" if hasattr(self.objective, "class_probabilities") else None
        inferred = kinds.get(getattr(self.config.method, "label_loss", None), classes)
        return fit_labels(self.cohort.table(self.cohort.rows("train")), settings).plain() | {"inferred": inferred}

    @torch.no_grad()
    def collapse(self) -> str | None:
        """Why the code is useless, in words: see collapse.py. None where it is fine, and where the outputs are predictions."""
        readout = self.config.method.readout
        if readout == "direct":
            return None
        self.net.eval()
        enough = sum(len(batch.image) for batch in self.validation) >= FEWEST
        batches = self.validation if enough else self.batches.whole(VALIDATION_BATCH)
        means, scales, logits, similarities = [], [], [], []
        for batch in batches:
            q = self.objective.posterior(self.net, batch.to(self.device))
            means.append(q.loc.cpu())
            scales.append(q.scale.cpu())
            logit: Any = getattr(self.objective, "logit", None)
            if logit is not None and batch.pairs is not None and len(batch.pairs.first):
                logits.append(logit(q.loc[:, : self.net.u], batch.pairs).cpu())
                similarities.append(batch.pairs.similarity)
        everyone = Normal(torch.cat(means), torch.cat(scales), validate_args=False)
        reasons = [nothing_told(everyone, self.net.u, readout == "u")]
        if logits:
            binary = getattr(self.config.method, "binary", False)
            reasons.append(pairs_at_chance(torch.cat(logits), torch.cat(similarities), binary))
        return "; ".join(reason for reason in reasons if reason) or None


def target_labels(table: pd.DataFrame, training: pd.DataFrame, targets: tuple[str, ...]) -> np.ndarray:
    """Targets (N, T): z-scores by the training subjects, then the class number (NaN: unknown, or not on the scale)."""
    real = list(targets[:-1])
    scores = Scaler.fit(training[real].to_numpy(float))(table[real].to_numpy(float))
    return np.column_stack([scores, class_numbers(table[targets[-1]].to_numpy(float), GOLD_CLASSES)])


def build(config: RunConfig, shape: tuple[int, ...]) -> tuple[VAE, Objective]:
    """Network and objective for images (C, *space)."""
    presence = config.input.channel_dropout > 0
    net = VAE(config.network, shape[0], tuple(shape[1:]), presence=presence, inputs=config.method.inputs)
    return net, config.method.build(net, len(config.targets))


def load_run(folder: Path, shape: tuple[int, ...]) -> tuple[RunConfig, VAE, Objective]:
    """A finished run's configuration, and its network and objective with the weights that are used."""
    config = RunConfig.parse(read_yaml(folder / "config.yaml"), str(folder.name))
    net, objective = build(config, shape)
    load_checkpoint(folder / "weights.safetensors", {"net": net, "objective": objective})
    return config, net.eval(), objective.eval()


def choose_device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def use_bf16(wanted: str, device: str) -> bool:
    return wanted == "on" or (wanted == "auto" and device.startswith("cuda") and torch.cuda.is_bf16_supported())


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold a run's folder; another process waits here. The lock goes with its process, however that ends."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class Log:
    """The table of a run's losses, one row a logged step."""

    def __init__(self, path: Path):
        self.path, self.rows = path, {}

    def add(self, step: int, values: dict[str, float]) -> None:
        self.rows.setdefault(step, {}).update(values)

    def cut(self, step: int) -> None:
        """Read the file back, as far as the checkpoint goes."""
        if self.path.is_file():
            stored = pd.read_csv(self.path, dtype=str)  # pandas before 3 reads floats as their neighbours
            self.rows = {int(row.pop("step")): {k: float(v) for k, v in row.items() if pd.notna(v)} for row in stored.to_dict("records")}
            self.rows = {known: row for known, row in self.rows.items() if known < step}

    def write(self) -> None:
        table = pd.DataFrame([{"step": step, **row} for step, row in sorted(self.rows.items())])
        write_csv(self.path, table)

    def last(self) -> dict[str, float]:
        merged: dict[str, float] = {}
        for _, row in sorted(self.rows.items()):
            merged |= row
        return merged


__all__ = ["Batch", "Cohort", "Run", "RunConfig", "Stopped", "TrainConfig", "load_run", "train_run"]
