"""The base of every configuration: complete, typed, frozen, and closed to keys that it does not know."""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from copdvae.errors import ConfigError


class Config(BaseModel):
    """A frozen set of settings. A misspelt key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, settings: Any, source: str = "settings") -> Self:
        """Validate plain data; raise `ConfigError` with one line a mistake, naming `source` and the key's path."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            lines = [describe_mistake(mistake, cls) for mistake in error.errors()]
            raise ConfigError(f"{source}: " + "; ".join(lines)) from None

    def plain(self) -> dict[str, Any]:
        """The settings as JSON-able data, defaults included."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Twelve hex digits that change when any setting does."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:12]


def describe_mistake(mistake: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] != "extra_forbidden":
        return f"{where}: {mistake['msg']}, found {mistake['input']!r}"
    *place, key = mistake["loc"]
    here = [name for found in models_at(model, place) for name in found.model_fields]
    near = difflib.get_close_matches(str(key), here, n=1)
    if not near:  # a key that belongs elsewhere
        elsewhere = {path.rpartition(".")[2]: path for path in reversed(paths_below(model))}
        near = [elsewhere[name] for name in difflib.get_close_matches(str(key), elsewhere, n=1)]
    return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")


def models_at(model: type[BaseModel], place: list[int | str]) -> list[type[BaseModel]]:
    """The models that a path of keys, list positions and unions' tags leads to."""
    here = [model]
    for part in place:
        tagged = [kind for kind in here if any(field.default == part for field in kind.model_fields.values())]
        inner = [found for kind in here if part in kind.model_fields for found in models_in(kind.model_fields[str(part)].annotation)]
        here = inner or tagged or here
    return here


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field may hold, by itself, in a tuple or in a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in models_in(inner)]


def paths_below(model: type[BaseModel]) -> list[str]:
    """Every key of `model` and of the models nested in it, as dotted paths."""
    nested = [
        f"{name}.{path}" for name, field in model.model_fields.items() for kind in models_in(field.annotation) for path in paths_below(kind)
    ]
    return [*model.model_fields, *nested]


def read_yaml(path: Path) -> Any:
    """Plain data from a YAML file (safe loader: tags that name Python objects are refused)."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
