"""The base of every configuration: complete, typed, frozen, and closed to keys that it does not know."""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from copdvae.errors import ConfigError

MOST_BYTES, MOST_NODES, MOST_NESTED = 1 << 18, 100_000, 100  # of a file of settings
MOST_MISTAKES, MOST_SHOWN = 20, 200  # in a message: mistakes, and characters of a wrong value
YAML_ERRORS = (  # PyYAML's, and what it lets pass: a date such as 2001-99-99, `!!int` of nothing, `!!bool` of a word, a deep nest
    yaml.YAMLError, UnicodeDecodeError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, RecursionError,
)  # fmt: skip


class Config(BaseModel):
    """A frozen set of settings. A misspelt key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, settings: Any, source: str = "settings") -> Self:
        """Validate plain data; raise `ConfigError` with one line a mistake, naming `source` and the key's path."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            found = error.errors()
            lines = [describe_mistake(mistake, cls) for mistake in found[:MOST_MISTAKES]]
            lines += [f"and {len(found) - MOST_MISTAKES} more"] if len(found) > MOST_MISTAKES else []
            raise ConfigError(f"{source}: " + "; ".join(lines)) from None

    def plain(self) -> dict[str, Any]:
        """The settings as JSON-able data, defaults included."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Twelve hex digits that change when any setting does."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:12]


def describe_mistake(mistake: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "value_error" and isinstance(mistake["input"], dict):  # of several settings together: it says itself which
        return f"{where}: {mistake['msg']}".removeprefix(": ").replace("Value error, ", "")
    if mistake["type"] != "extra_forbidden":
        return f"{where}: {mistake['msg']}, found {shortened(repr(mistake['input']))}"
    *place, key = mistake["loc"]
    here = [name for found in models_at(model, place) for name in found.model_fields]
    near = difflib.get_close_matches(str(key), here, n=1)
    if not near:  # a key that belongs elsewhere
        elsewhere = {path.rpartition(".")[2]: path for path in reversed(paths_below(model))}
        near = [elsewhere[name] for name in difflib.get_close_matches(str(key), elsewhere, n=1)]
    return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")


def shortened(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 4] + " ..."


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


class PlainLoader(yaml.SafeLoader):
    """Makes plain data alone, and no more of it than a person would write: an alias can stand for a list of aliases of lists ..."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level >= MOST_NESTED:  # the time that PyYAML takes grows with the square of it
            raise yaml.YAMLError(f"lists inside one another more than {MOST_NESTED} deep")
        super().fetch_flow_collection_start(TokenClass)

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        if written_out(node, {}) > MOST_NODES:
            raise yaml.YAMLError(f"more than {MOST_NODES} values once its aliases are written out")
        return self.construct_document(node)


def written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for where every alias is written out; infinite where one holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(written_out(part, known) for part in inner) if isinstance(node, yaml.CollectionNode) else 1
    return known[id(node)]


def read_yaml(path: Path) -> Any:
    """Plain data from a YAML file; tags that name Python objects, and files that no person wrote, are refused."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{path}: more than {MOST_BYTES:,} bytes; expected a file of settings")
    try:
        return yaml.load(text.decode("utf-8"), PlainLoader)
    except YAML_ERRORS as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
