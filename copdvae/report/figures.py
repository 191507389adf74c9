"""The page's interactive figures, as Plotly's JSON, and its pictures, as PNG in the page itself."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.image import imsave
from scipy.stats import spearmanr

from copdvae.metrics.information import cut_at_deciles, rank_latents
from copdvae.report.cohort import label_of, ordered
from copdvae.report.files import Column, Frame, Run, Study
from copdvae.report.panels import ACCENT, ALARM, INK, MUTED, Panels, markup
from copdvae.report.shown import interval, method_name, metric_name, number, target_name
from copdvae.report.tables import agreement, targets_of
from copdvae.report.words import GOLD, GOLD_COLOURS, KIND_COLOURS, MEASURES, TARGETS, TERMS

PALETTE = ("#0b6e8a", "#e08e3c", "#7c6a9c", "#5a9367", "#c0504d", "#4f6d9c", "#b5a642", "#8b95a1")
BREATHS = {"insp": "Inspiration", "exp": "Expiration"}
MAX_POINTS = 400  # of a training curve
MOST_DOTS = 2500  # of one figure: a browser draws each as an element of its own
HIDDEN_TERMS = ("grad_", "kl_u_", "kl_v_")


def plain(value: Any) -> Any:
    """Arrays as lists of short numbers, NaN as None: what JSON in a page can hold."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | pd.Series):
        return [plain(entry) for entry in value.tolist()]
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value


def score_figure(study: Study, table: Frame) -> dict[str, Any] | None:
    """Dots and intervals of `first_scores`: a panel a target, a line a method; ceilings as dashed lines, seeds as small dots."""
    table = table[table["value"].notna()]
    if not len(table):
        return None
    targets = targets_of(table)
    methods = [method for method in study.methods() if method in set(table["method"])]
    names = [markup(method_name(method)) for method in methods]
    panels = Panels([target_name(target) for target in targets], len(targets), (0.03, 0), shared_y=True)
    for panel, target in enumerate(targets):
        part = table[table["target"] == target].set_index("method")
        panels.line(panel, "x", 0, MUTED)
        if np.isfinite(part["ceiling"].max()):
            panels.line(panel, "x", float(part["ceiling"].max()), ALARM, 1.5, "dash")
        for method, name in zip(methods, names, strict=True):
            if method not in part.index:
                continue
            row, colour = part.loc[method], KIND_COLOURS[study.kind(method)]
            seeds, identity = row["seeds"] if len(row["seeds"]) > 1 else [], row["note"] == "identity"
            small = {"size": 5, "color": colour, "opacity": 0.4}
            panels.add(panel, x=seeds, y=[name] * len(seeds), mode="markers", hoverinfo="skip", marker=small)
            score = f"{markup(metric_name(row['metric']))} {number(row['value'])} ({interval(row['low'], row['high'])})"
            hover = f"<b>{name}</b><br>{score}{'<br>predicts itself' if identity else ''}<extra></extra>"
            marker = {"size": 10, "color": "white" if identity else colour, "line": {"color": colour, "width": 2}}
            add_interval(panels, panel, name, row, colour, marker, hover)
        panels.axis("x", panel, metric_name(str(part["metric"].iloc[0])), range=score_range(part))
    return by_name(panels, names)


def add_interval(panels: Panels, panel: int, name: str, row: Column, colour: str, marker: dict[str, Any], hover: str) -> None:
    """A dot with its interval on the line `name`."""
    bar = {"type": "data", "symmetric": False, "array": [row["high"] - row["value"]], "arrayminus": [row["value"] - row["low"]]}
    bar |= {"color": colour, "thickness": 2, "width": 0}
    panels.add(panel, x=[row["value"]], y=[name], mode="markers", marker=marker, error_x=bar, hovertemplate=hover)


def by_name(panels: Panels, names: list[str]) -> dict[str, Any]:
    """The figure with a line a name, from the top."""
    panels.axis("y", 0, categoryorder="array", categoryarray=names[::-1], range=[-0.6, len(names) - 0.4])
    return panels.spec(height=110 + 38 * len(names), left=10)


def score_range(part: Frame) -> list[float]:
    """From a little below 0 (a hopeless baseline may leave the picture) to a little above the highest interval or ceiling."""
    known = part[part["note"] != "identity"]
    high = np.nanmax([*known["high"], *known["value"], *known["ceiling"], 0.1])
    low = np.nanmin([*known["low"], *known["value"], 0])
    return [max(float(low), -0.4) - 0.05, min(float(high), 1.0) + 0.05]


def difference_figure(study: Study, main: str) -> dict[str, Any] | None:
    """The method `main` less each other one, a panel a target."""
    table = None if study.differences is None else study.differences.dropna(subset=["value"])
    if table is None or not len(table):
        return None
    main = main if main in set(table["method"]) else str(table["method"].iloc[0])
    table = table[table["method"] == main]
    targets = targets_of(table)
    others = [method for method in study.methods() if method in set(table["other"])]
    names = [markup(method_name(method)) for method in others]
    panels = Panels([target_name(target) for target in targets], len(targets), (0.03, 0), shared_y=True)
    for panel, target in enumerate(targets):
        part = table[table["target"] == target].set_index("other")
        panels.line(panel, "x", 0, INK)
        for other, name in zip(others, names, strict=True):
            if other not in part.index:
                continue
            row = part.loc[other]
            colour = ACCENT if row["low"] > 0 else ALARM if row["high"] < 0 else MUTED
            score = f"{number(row['value'])} ({interval(row['low'], row['high'])})"
            hover = f"{markup(method_name(main))} less <b>{name}</b><br>{score}<extra></extra>"
            add_interval(panels, panel, name, row, colour, {"size": 10, "color": colour}, hover)
        panels.axis("x", panel, f"difference in {metric_name(str(part['metric'].iloc[0]))}")
    return by_name(panels, names) | {"main": method_name(main)}


def main_method(table: Frame) -> str:
    """The representation with the highest mean of `first_scores` over the targets."""
    learnt = table[table["kind"].isin(["u", "ranked"])]
    means = learnt.groupby("method")["value"].mean().dropna()
    return str(means.idxmax()) if len(means) else ""


def agreement_figure(points: Frame, target: str) -> dict[str, Any]:
    """Left: truth against prediction. Right: Bland and Altman's plot."""
    facts, name, dots = agreement(points), target_name(target), {"size": 6, "color": ACCENT, "opacity": 0.5}
    points = points.iloc[some_of(len(points), MOST_DOTS // 2)]  # figures and lines are of all
    truth, predicted = points["truth"].to_numpy(float), points["predicted"].to_numpy(float)
    panels = Panels(["Predicted and measured", "Difference against average (Bland–Altman)"], 2, (0.11, 0))
    ends = np.array([min(truth.min(), predicted.min()), max(truth.max(), predicted.max())])
    panels.add(0, x=ends, y=ends, mode="lines", line={"color": MUTED, "width": 1, "dash": "dot"}, hoverinfo="skip")
    hover = "predicted %{x:.1f}, measured %{y:.1f}<extra></extra>"
    panels.add(0, x=predicted, y=truth, mode="markers", marker=dots, hovertemplate=hover)
    if np.isfinite(facts["slope"]):
        x = np.array([predicted.min(), predicted.max()])
        panels.add(0, x=x, y=facts["intercept"] + facts["slope"] * x, mode="lines", line={"color": ALARM, "width": 2}, hoverinfo="skip")
    hover = "average %{x:.1f}, predicted less measured %{y:.1f}<extra></extra>"
    panels.add(1, x=(truth + predicted) / 2, y=predicted - truth, mode="markers", marker=dots, hovertemplate=hover)
    for key, dash in (("bias", "solid"), ("low", "dash"), ("high", "dash")):
        panels.line(1, "y", facts[key], ALARM, 1.5, dash, number(facts[key], 1))
    panels.axis("x", 0, f"Predicted {name}")
    panels.axis("y", 0, f"Measured {name}")
    panels.axis("x", 1, f"Average of both, {name}")
    panels.axis("y", 1, "Predicted less measured")
    return panels.spec(height=420, left=60)


def some_of(count: int, most: int) -> np.ndarray:
    """Places of at most `most` of `count` subjects, drawn at random, always the same ones, in their order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def training_figure(runs: list[Run]) -> dict[str, Any] | None:
    """A panel a loss term: training thin, validation bold, a colour a seed."""
    logs = [(run, run.log) for run in runs if run.log is not None and len(run.log) > 1]
    terms: list[str] = []
    for _, log in logs:
        for column in log.columns:
            term = column.removeprefix("validation_")
            if term not in (*terms, "step") and not term.startswith(HIDDEN_TERMS) and log[column].notna().sum() > 1:
                terms.append(term)
    if not terms:
        return None
    columns = min(3, len(terms))
    lines = -(-len(terms) // columns)
    panels = Panels([TERMS.get(term, term) for term in terms], columns, (0.07, 0.42 / (lines + 1)))
    for place, (run, log) in enumerate(logs):
        for panel, term in enumerate(terms):
            for prefix, width, opacity, word in (("", 1, 0.55, "training"), ("validation_", 2.5, 1, "validation")):
                if f"{prefix}{term}" not in log:
                    continue
                x, y = thinned(log[["step", f"{prefix}{term}"]].dropna()).to_numpy(float).T
                hover = f"seed {markup(run.seed)}, {word}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"
                line = {"color": PALETTE[place % len(PALETTE)], "width": width}
                panels.add(panel, x=x, y=y, mode="lines", line=line, opacity=opacity, hovertemplate=hover)
    return panels.spec(height=70 + 210 * lines, left=50, bottom=40)


def thinned(curve: Frame) -> Frame:
    """At most `MAX_POINTS` rows, each the mean of a block."""
    if len(curve) <= MAX_POINTS:
        return curve
    return curve.groupby(np.arange(len(curve)) * MAX_POINTS // len(curve)).mean()


def scatter_data(study: Study, small: int = 0) -> dict[str, Any] | None:
    """What the latent scatter needs: subjects with their measures, and each run's codes. Ids are left out where cells are hidden."""
    cohort = study.cohort
    if cohort is None:
        return None
    runs = [(method, run) for method, group in study.by_method().items() for run in group]
    shown = [(method, run, run.latents) for method, run in runs if run.latents is not None and run.readout in ("u", "ranked")]
    ids = [subject for subject in cohort.index if any(subject in latents.index for _, _, latents in shown)]
    if not ids:
        return None
    drawn = some_of(len(ids), MOST_DOTS)
    people = cohort.loc[ids]
    measures = [name for name in (*TARGETS, "fev1_fvc", "fvc_pp", "age", "height_cm") if name in people and people[name].notna().any()]
    real = [name for name in measures if name != "gold"]
    groups = {}
    for name in ("gold", "split", "sex", "site", "scanner", "kernel"):
        if name in people and 1 < people[name].nunique() <= 12:
            labels = people[name].map(lambda value, name=name: label_of(name, value) or "unknown")
            order = [label_of(name, value) for value in ordered(name, people[name].unique()) if label_of(name, value)]
            order += ["unknown"] if (labels == "unknown").any() else []
            colours = [GOLD_COLOURS[stage] for stage in GOLD if GOLD[stage] in order] if name == "gold" else list(PALETTE)
            groups[name] = {
                "name": MEASURES.get(name, name), "of": [order.index(label) for label in labels.iloc[drawn]], "labels": order,
                "colours": [*colours[: len(order)], *["#c9ced6"] * (len(order) - len(colours))],
            }  # fmt: skip
    return {
        "ids": None if small else [ids[place] for place in drawn],
        "of": len(ids),
        "test": (people["split"] == "test").iloc[drawn].tolist(),
        "measures": [{"key": name, "name": MEASURES.get(name, name), "values": people[name].iloc[drawn]} for name in measures],
        "groups": groups,
        "continuous": real,
        "runs": [run_codes(method, run, latents.reindex(ids), people, measures, drawn) for method, run, latents in shown],
    }


def run_codes(method: str, run: Run, latents: Frame, people: Frame, measures: list[str], drawn: np.ndarray) -> dict[str, Any]:
    """The codes of a run to plot against each measure: u_0, or the latent that tells most about the measure in training subjects.

    Latents are chosen and correlated over all `people`; only those at the places `drawn` are plotted.
    """
    columns = [column for column in latents if column.startswith("u_") and not column.endswith("_std")]
    chosen = dict.fromkeys(measures, columns[0] if columns else "")
    if not columns:
        every = [column for column in latents if column.startswith("z_") and not column.endswith("_std")]
        train = (people["split"] == "train").to_numpy() if (people["split"] == "train").any() else np.ones(len(people), bool)
        for name in measures:
            values = people.loc[train, name].to_numpy(float)
            known = ~np.isnan(values) & latents.loc[train, every].notna().all(axis=1).to_numpy()
            labels = values[known] if name == "gold" else cut_at_deciles(values[known], values[known]) if known.any() else []
            chosen[name] = every[rank_latents(latents.loc[train, every].to_numpy()[known], labels)[0]] if known.sum() > 1 else every[0]
    test = (people["split"] == "test").to_numpy()
    codes = {column: latents[column] for column in dict.fromkeys(chosen.values())}
    return {
        "name": f"{method_name(method)}, seed {run.seed}" if run.seed else method_name(method),
        "x": chosen,
        "codes": {column: code.iloc[drawn] for column, code in codes.items()},
        "second": {"name": columns[1], "values": latents[columns[1]].iloc[drawn]} if len(columns) > 1 else None,
        "rho": {name: rank_correlation(codes[chosen[name]][test], people.loc[test, name], name) for name in measures},
    }


def rank_correlation(code: Column, values: Column, name: str) -> float | None:
    """Spearman's, over subjects that have both; of GOLD over the stages 0 to 4 alone."""
    known = code.notna() & values.notna() & ((values >= 0) if name == "gold" else True)
    if known.sum() < 3 or code[known].nunique() < 2 or values[known].nunique() < 2:
        return None
    found: Any = spearmanr(code[known], values[known])
    return float(found.statistic)


def traversal(study: Study, run: Run) -> dict[str, Any] | None:
    """Decoded slices along u, from better to worse lung function where that is known, and what changes between the ends."""
    images, steps = run.pictures.get("traversal"), run.pictures.get("traversal_u")
    if images is None or steps is None or images.ndim != 5:
        return None
    rho = direction(study, run)
    if rho is not None and rho > 0:  # u rises with FEV1: show it falling
        images, steps = images[::-1], steps[::-1]
    rows = []
    for name, channel, plane in views(run, images.shape[1]):
        slices = [cut(image[channel], plane) for image in images]
        change = (slices[-1].astype(float) - slices[0]) / 2
        rows.append({"name": name, "images": [png(piece) for piece in slices], "change": change_png(change)})
    return {
        "rows": rows,
        "steps": [number(float(step), 1 if np.ptp(steps) > 1 else 3) for step in steps],
        "rho": None if rho is None else number(rho),
    }


def direction(study: Study, run: Run) -> float | None:
    """Rank correlation of the traversed latent with FEV1 % predicted over all encoded subjects."""
    column = run.about_pictures.get("latent", "u_0")
    if study.cohort is None or run.latents is None or column not in run.latents or "fev1_pp" not in study.cohort:
        return None
    both = run.latents[[column]].join(study.cohort["fev1_pp"], how="inner")
    return rank_correlation(both[column], both["fev1_pp"], "fev1_pp")


def reconstructions(run: Run) -> list[dict[str, Any]]:
    """Input and reconstruction of a few subjects, slice by slice."""
    given, made = run.pictures.get("input"), run.pictures.get("reconstruction")
    if given is None or made is None or given.shape != made.shape or given.ndim != 5:
        return []
    planes = sorted(views(run, given.shape[1]), key=lambda view: view[2] != "coronal")[: given.shape[1] + 1]
    found = []
    for name, channel, plane in planes:
        pairs = [(png(cut(x[channel], plane)), png(cut(y[channel], plane))) for x, y in zip(given, made, strict=True)]
        found.append({"name": name, "pairs": pairs})
    return found


def views(run: Run, channels: int) -> list[tuple[str, int, str]]:
    """Name, channel and plane of what is shown of an image."""
    breaths = [BREATHS.get(name, name) for name in run.about_pictures.get("channels", "insp+exp").split("+")]
    return [(f"{breath}, {plane}", channel, plane) for channel, breath in enumerate(breaths[:channels]) for plane in ("coronal", "axial")]


def cut(volume: np.ndarray, plane: str) -> np.ndarray:
    """A slice of (z, y, x) as a radiologist sees it: patient's right on the left, head or front up."""
    depth, height, _ = volume.shape
    return volume[round(depth * 0.6)] if plane == "axial" else volume[::-1, round(height * 0.5)]


def png(image: np.ndarray) -> str:
    return data_uri(np.clip(np.nan_to_num(image), 0, 1), cmap="gray", vmin=0, vmax=1)


def change_png(change: np.ndarray) -> str:
    """Lower density red, higher blue, on white, scaled to the picture's own largest change."""
    largest = max(float(np.quantile(np.abs(change), 0.998)), 0.01)
    return data_uri(colormaps["RdBu"](np.clip(change / largest / 2 + 0.5, 0, 1)))


def data_uri(image: np.ndarray, **options: Any) -> str:
    buffer = io.BytesIO()
    options["metadata"] = {"Software": None}  # no maker's address in the picture
    imsave(buffer, np.ascontiguousarray(image), format="png", **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
