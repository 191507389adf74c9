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
    """One method. `batches` are those of its defaults, and of each variant that takes others."""
    schema = kind.model_json_schema()
    definitions = schema.get("$defs", {})
    default = kind()
    batches = {"": [default.needs, *default.also]}
    others = {", ".join(leaves(choice)): kind.model_validate(choice) for choice in choices_of(schema, definitions)}
    absent = [name for name, field in schema["properties"].items() if models_in(field, definitions) and may_be_null(field)]
    others |= {f"{name} null": default.model_copy(update={name: None}) for name in absent}  # not parsed: it may ask for more than that
    batches |= {words: streams for words, config in others.items() if (streams := [config.needs, *config.also]) != batches[""]}
    tried = [default.misfit(u, v) for u in (1, 2, 3) for v in (1, 2, 0)]
    return {
        "method": kind.model_fields["method"].default,
        "paper": kind.paper,
        "told": kind.told,
        "batches": batches,
        "u": U[kind.readout],
        "latents": list(dict.fromkeys(why for why in tried if why)),  # what d(u) and d(v) must be
        "settings": settings_of(schema, definitions),
        "strict": dict(kind.quirks),
    }


def choices_of(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Every choice of a variant, also of a method that the method is built on, as settings."""
    found: list[dict[str, Any]] = [{}]
    for name, field in schema["properties"].items():
        bases = [model for model in models_in(field, definitions) if "method" in model["properties"]]
        options: list[Any] = field["enum"] if name == "variant" else []
        for base in bases:
            options += [{"method": base["properties"]["method"]["const"]} | inner for inner in choices_of(base, definitions)]
        found = [chosen | {name: option} for chosen in found for option in options] if options else found
    return found


def leaves(choice: dict[str, Any]) -> list[str]:
    """What was chosen, in words."""
    return [leaf for value in choice.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def may_be_null(field: dict[str, Any]) -> bool:
    return any(option.get("type") == "null" for option in field.get("anyOf", []))


def models_in(field: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """The models that a field may hold: none, one, or those of a union."""
    options = (field, *field.get("oneOf", []), *field.get("anyOf", []))
    named = [definitions[option["$ref"].rpartition("/")[2]] for option in options if "$ref" in option]
    return [model for model in named if "properties" in model]


def settings_of(schema: dict[str, Any], definitions: dict[str, Any], above: str = "", defaults: Any = None) -> list[dict[str, Any]]:
    """Each setting's dotted name, default, what it may be, and bounds and choices as JSON Schema has them.

    `defaults` are those of a model inside another. Settings of a union's models have `with`: the `method` that they belong to.
    """
    found: list[dict[str, Any]] = []
    for name, field in schema["properties"].items():
        default = (defaults or {}).get(name, field.get("default"))
        models = models_in(field, definitions)
        if len(models) > 1:
            tags = [model["properties"]["method"]["const"] for model in models]
            found.append({"name": f"{above}{name}.method", "default": default["method"], "values": " | ".join(tags), "enum": tags})
        if models and may_be_null(field):
            found.append({"name": above + name, "default": default, "values": "the settings below, or null"})
        for model in models:
            tag = model["properties"].get("method", {}).get("const")
            inner = settings_of(
                model, definitions, f"{above}{name}.", default if default and tag in (None, default.get("method")) else None
            )
            found += [setting | {"with": tag} for setting in inner] if len(models) > 1 else inner
        if not models and "const" not in field and (name != "label" or "method" not in schema["properties"]):  # names, not settings
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
    settings = [(setting["name"], as_yaml(setting["default"]), words_of(setting)) for setting in method["settings"]]
    wide, wide_default = (min(max((len(row[column]) for row in settings), default=0), WIDTH // 4) for column in (0, 1))
    for number, (name, default, values) in enumerate(settings):
        lines += wrapped("" if number else "settings", f"{name:<{wide}}  {default:<{wide_default}}  {values}", INDENT + wide + 2)
    for number, (name, text) in enumerate(method["strict"].items()):
        lines += wrapped("" if number else "strict", f"{name}: {text}")
    return lines


def words_of(setting: dict[str, Any]) -> str:
    return setting["values"] + (f", with {setting['with']}" if "with" in setting else "")


def as_yaml(value: Any) -> str:
    """A default as a study file would have it."""
    if isinstance(value, dict):
        return "..."
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def in_words(streams: list[str]) -> str:
    return ", ".join(BATCHES[stream] for stream in streams)


def wrapped(name: str, text: str, hanging: int = INDENT) -> list[str]:
    first = f"  {name:<{INDENT - 2}}"
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * hanging, break_on_hyphens=False) or [first]
