"""The base of every configuration: complete, typed, frozen, and closed to keys that it does not know."""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from copdvae.errors import ConfigError


class Config(BaseModel):
    """A frozen set of settings. A misspelt key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

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
    near = difflib.get_close_matches(str(mistake["loc"][-1]), known_keys(model), n=1)
    return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")


def known_keys(model: type[BaseModel]) -> list[str]:
    """Every key of `model` and of the models nested in it, the unions' members included."""
    keys: list[str] = []
    todo: list[Any] = [model]
    seen: set[int] = set()
    while todo:
        kind = todo.pop()
        if id(kind) in seen:
            continue
        seen.add(id(kind))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += kind.model_fields
            todo += [field.annotation for field in kind.model_fields.values()]
        todo += getattr(kind, "__args__", ())
    return keys


def read_yaml(path: Path) -> Any:
    """Plain data from a YAML file (safe loader: tags that name Python objects are refused)."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
