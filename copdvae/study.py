"""The study file: one complete YAML for one experiment. Every path in it is relative to its root."""

from pathlib import Path

import pandas as pd
from pydantic import Field, model_validator

import copdvae
from copdvae.config import Config, read_yaml
from copdvae.dataset import AugmentConfig, InputConfig
from copdvae.errors import ConfigError
from copdvae.evaluate import EvaluateConfig
from copdvae.networks import NetworkConfig
from copdvae.objectives import Method
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.split import SplitConfig
from copdvae.read.phenotypes import PhenotypesConfig
from copdvae.supervision.similarity import SimilarityConfig
from copdvae.train import TrainConfig


class PhantomConfig(Config):
    """The synthetic study to write where the manifest does not exist yet."""

    subjects: int = Field(default=600, ge=10)
    size: int = Field(default=64, ge=32)
    seed: int = Field(default=0, ge=0)
    format: str = "dicom"


class DataConfig(Config):
    """Where the study's own files lie, and which columns are targets."""

    manifest: Path = Path("manifest.csv")
    phenotypes: Path = Path("phenotypes.csv")
    truth: Path | None = None  # a phantom's known factors: ceilings are computed from them
    planted: Path | None = None  # subject_id, reason: rejections that are expected
    visit: str = ""  # of the manifest, where subjects have several; empty: each subject's first
    emphysema_from: str = "ct"  # "ct": LAA-950 by ingest; "table": the phenotype table's column
    gas_trapping_from: str = "ct"  # "ct": LAA-856 by ingest; "table"

    @model_validator(mode="after")
    def _sources(self) -> "DataConfig":
        for name in ("emphysema_from", "gas_trapping_from"):
            if getattr(self, name) not in ("ct", "table"):
                raise ValueError(f"{name}: 'ct' or 'table'")
        return self


class MethodRun(Config):
    """One method of the experiment, with what differs from the study's own settings."""

    method: Method
    seeds: tuple[int, ...] | None = None
    input: InputConfig | None = None
    network: NetworkConfig | None = None
    train: TrainConfig | None = None


class Study(Config):
    """A whole experiment: its data, how it is prepared, what is trained, how it is scored."""

    name: str
    root: Path = Path()  # relative to the study file's folder
    out: Path = Path()  # results, relative to the root
    cache: Path = Path("cache")
    phantom: PhantomConfig | None = None
    data: DataConfig = DataConfig()
    phenotypes: PhenotypesConfig = PhenotypesConfig()
    ingest: IngestConfig = IngestConfig()
    split: SplitConfig = SplitConfig()
    input: InputConfig = InputConfig()
    network: NetworkConfig = NetworkConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    seeds: tuple[int, ...] = (0,)
    methods: tuple[MethodRun, ...]
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _labels(self) -> "Study":
        labels = [run.method.name for run in self.methods]
        if not labels:
            raise ValueError("methods: name at least one")
        if len(set(labels)) != len(labels):
            raise ValueError(f"methods: {', '.join(labels)}: give a `label` to each that appears twice")
        return self

    def only(self, label: str) -> "Study":
        """The same study with one method, or with all where `label` is empty."""
        chosen = tuple(run for run in self.methods if not label or run.method.name == label)
        if not chosen:
            raise ConfigError(f"{label}: no such method in {self.name}; it has {', '.join(run.method.name for run in self.methods)}")
        return self.model_copy(update={"methods": chosen})


def load_study(path: Path, root: Path | None = None) -> Study:
    """Read a study file (or `study.yaml` in a folder). Its root becomes absolute; `root` takes its place where given."""
    file = path / "study.yaml" if path.is_dir() else path
    study = Study.parse(read_yaml(file), file.name)
    place = root if root is not None else file.parent / study.root
    return study.model_copy(update={"root": place.resolve()})


def packaged_config(name: str) -> Path:
    """A study file that comes with copdvae, such as `demo.yaml`: from the installed package, or from the repository."""
    package = Path(copdvae.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"{name}: no such configuration in this installation of copdvae")


def one_visit(index: pd.DataFrame, visit: str) -> pd.DataFrame:
    """The rows of index.csv for one visit a subject: the one named, else each subject's first."""
    table = index.assign(visit=index["visit"].fillna("").astype(str), subject_id=index["subject_id"].astype(str))
    if visit:
        return table.loc[table["visit"] == visit].reset_index(drop=True)
    return table.sort_values(["subject_id", "visit"]).drop_duplicates("subject_id").reset_index(drop=True)
