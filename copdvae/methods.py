"""What methods there are: where each is from, what it is told, what it takes a step, which latents are `u`, and what can be set."""

import textwrap
from typing import Any, get_args

from copdvae.objectives import Method, MethodConfig

KINDS: tuple[type[MethodConfig], ...] = get_args(get_args(Method)[0])
U = {
    "u": "the first d(u) latents",
    "ranked": "the d(u) latents that say most about the target in training subjects",
    "all": "all latents",
    "direct": "none; the first latents are the predictions",
}
BATCHES = {
    "image": "images", "second": "a second batch of images", "pair": "images with similarities of their pairs",
    "label": "images with labels", "group": "groups of images",
}  # fmt: skip
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}  # of JSON Schema
WIDTH, INDENT = 120, 12


def methods() -> list[dict[str, Any]]:
    """Every method of the union, as plain data."""
    return [describe(kind) for kind in KINDS]


def describe(kind: type[MethodConfig]) -> dict[str, Any]:
    """One method. `batches` and `latents` are lists; `batches` has an entry a variant where they differ."""
    schema = kind.model_json_schema()
    variants = schema["properties"].get("variant", {}).get("enum", [])
    made = {variant: kind.model_validate({"variant": variant}) for variant in variants} or {"": kind()}
    batches = {variant: [config.needs, *config.also] for variant, config in made.items()}
    if len({tuple(streams) for streams in batches.values()}) == 1:
        batches = {"": next(iter(batches.values()))}
    tried = [kind().misfit(u, v) for u in (1, 2, 3) for v in (1, 2, 0)]
    return {
        "method": kind.model_fields["method"].default,
        "paper": kind.paper,
        "told": kind.told,
        "batches": batches,
        "u": U[kind.readout],
        "latents": list(dict.fromkeys(why for why in tried if why)),  # what d(u) and d(v) must be
        "settings": settings_of(schema, schema.get("$defs", {})),
        "strict": dict(kind.quirks),
    }


def settings_of(schema: dict[str, Any], definitions: dict[str, Any], above: str = "", defaults: Any = None) -> list[dict[str, Any]]:
    """Each setting's dotted name, default, type, bounds and choices; `defaults` are those of a model inside another."""
    found = []
    for name, field in schema["properties"].items():
        if "const" in field or above + name == "label":  # the method's own name, and the user's for it
            continue
        default = field.get("default") if defaults is None else defaults.get(name, field.get("default"))
        inner = definitions.get(field.get("$ref", "").rpartition("/")[2])
        if inner is not None and "properties" in inner:
            found += settings_of(inner, definitions, f"{above}{name}.", default)
            continue
        entry = {"name": above + name, "default": default, "values": values_of(field, definitions)}
        found.append(entry | {key: field[key] for key in (*BOUNDS, "enum") if key in field})
    return found


def values_of(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a setting may be, in words."""
    if "$ref" in field:
        return values_of(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        return " or ".join(values_of(option, definitions) for option in field["anyOf"])
    if "enum" in field or "const" in field:
        return " | ".join(map(str, field.get("enum", [field.get("const")])))
    if field.get("type") == "array":
        inner = field.get("items") or next(iter(field.get("prefixItems", [])), {})
        return f"list of {values_of(inner, definitions)}"
    words = {"number": "number", "integer": "whole number", "boolean": "true | false", "string": "text", "null": "nothing"}
    return " ".join(
        [words.get(field.get("type", ""), "anything"), *[f"{sign} {field[key]}" for key, sign in BOUNDS.items() if key in field]]
    )


def as_text(described: list[dict[str, Any]]) -> str:
    """The list for people."""
    return "\n\n".join("\n".join(lines_of(method)) for method in described)


def lines_of(method: dict[str, Any]) -> list[str]:
    steps = [f"{variant}: {in_words(streams)}" if variant else in_words(streams) for variant, streams in method["batches"].items()]
    rows = [
        ("from", method["paper"]),
        ("told", method["told"]),
        ("a step", "; ".join(steps)),
        ("u", "; ".join([method["u"], *method["latents"]])),
    ]
    lines = [method["method"]] + [line for name, text in rows for line in wrapped(name, text)]
    settings = [(setting["name"], as_yaml(setting["default"]), setting["values"]) for setting in method["settings"]]
    wide, wide_default = (max((len(row[column]) for row in settings), default=0) for column in (0, 1))
    for number, (name, default, values) in enumerate(settings):
        lines += wrapped("" if number else "settings", f"{name:<{wide}}  {default:<{wide_default}}  {values}", INDENT + wide + 2)
    for number, (name, text) in enumerate(method["strict"].items()):
        lines += wrapped("" if number else "strict", f"{name}: {text}")
    return lines


def as_yaml(value: Any) -> str:
    """A default as a study file would have it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def in_words(streams: list[str]) -> str:
    return ", ".join(BATCHES[stream] for stream in streams)


def wrapped(name: str, text: str, hanging: int = INDENT) -> list[str]:
    first = f"  {name:<{INDENT - 2}}"
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * hanging, break_on_hyphens=False) or [first]
