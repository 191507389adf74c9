"""The report: one HTML page, whole in itself, that opens from a disk with no network.

Plotly's script, the style and every picture are inside the file; the page's own content security policy forbids it to load anything.
Every text that came from a file is escaped: by the template, and again in what Plotly reads as markup.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from copdvae import __version__
from copdvae.files import write_text
from copdvae.report import cohort, figures, shown, tables
from copdvae.report.files import Study, read_study
from copdvae.report.words import GLOSSARY, GOLD_COLOURS, KIND_COLOURS, METHODS, TARGETS

SHOWN_ELSEWHERE = ("warnings", "notes", "phenotype_warnings")
MOST_LISTED = 200  # rejected subjects, or remarks, one by one


def report(out: Path, small_cells: int = 0) -> Path:
    """Write `out`/report.html from the files of the study in `out`; return its path.

    Counts from 1 to `small_cells` - 1 are hidden in the tables, and then no subject is named anywhere on the page. Individual points
    are still drawn: this is a guard for sharing with colleagues, not an anonymisation.
    """
    study = read_study(out)
    page = out / "report.html"
    write_text(page, render(study, small_cells))
    return page


def render(study: Study, small_cells: int = 0) -> str:
    return environment().get_template("page.html.j2").render(content(study, small_cells))


def environment() -> Environment:
    """What a page is made with: every text from a file is escaped, and a name that nothing is known of is an error."""
    made = Environment(
        loader=PackageLoader("copdvae.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"figure": figure_tag, "data": data_tag, "source": source_of}
    return made


def content(study: Study, small: int) -> dict[str, Any]:
    """Everything that the template shows. A part that cannot be made is None or empty, and `why` says why."""
    scores = tables.first_scores(study)
    best = tables.best_of(scores)
    methods, remarks = study.methods(), cohort.scan_warnings(study)
    return {
        "version": __version__,
        "plotly": Markup(get_plotlyjs()),
        "title": title_of(study),
        "facts": facts_of(study),
        "warnings": tables.warnings_of(study),
        "cards": cards(best, study),
        "lede": lede(study, best),
        "results": tables.result_table(study, scores) if len(scores) else None,
        "score_figure": figures.score_figure(study, scores),
        "difference_figure": figures.difference_figure(study, figures.main_method(scores)),
        "differences": tables.difference_rows(study),
        "others": tables.other_scores(study, scores),
        "labels": tables.label_tables(study),
        "scatter": figures.scatter_data(study, small),
        "traversals": [entry for method, runs in study.by_method().items() if (entry := traversal_of(study, method, runs))],
        "reconstructions": [
            {"name": shown.method_name(method), "views": views}
            for method, runs in study.by_method().items()
            if (views := next((found for run in runs if (found := figures.reconstructions(run))), None))
        ],
        "confusions": tables.confusions(study, small),
        "agreements": agreements(study, best),
        "training": [
            {"name": shown.method_name(method), "figure": found}
            for method, runs in study.by_method().items()
            if (found := figures.training_figure(runs))
        ],
        "flow": cohort.flow(study, small) if study.cohort is not None or study.rejected is not None else None,
        "cohorts": cohorts(study, small),
        "sources": [*tables.sources(study), *cohort.resampled(study, small), *cohort.lacking(study, small)],
        "notes": [str(note) for note in study.evaluation.get("notes", [])],
        "quality": cohort.quality_rows(study, small),
        "checked": study.quality is not None,
        "remarks": [] if small else remarks[:MOST_LISTED],
        "remarked": len(remarks),
        "row_remarks": [] if small else [str(line) for line in study.evaluation.get("phenotype_warnings", [])][:MOST_LISTED],
        "rejected": rejected(study, small),
        "refused": 0 if study.rejected is None else len(study.rejected),
        "runs": tables.run_rows(study),
        "configs": [
            (shown.method_name(method), shown.flat(runs[0].config)) for method, runs in study.by_method().items() if runs[0].config
        ],
        "evaluation": shown.flat({key: value for key, value in study.evaluation.items() if key not in SHOWN_ELSEWHERE}),
        "methods": [(shown.method_name(m), describe(study, m), KIND_COLOURS[study.kind(m)]) for m in methods if describe(study, m)],
        "glossary": GLOSSARY,
        "gold_colours": GOLD_COLOURS,
        "why": study.missing,
        "small": small,
    }


def title_of(study: Study) -> str:
    names = [study.evaluation.get("study"), *(run.facts.get("study") for run in study.runs)]
    return next((str(name) for name in names if name), "Study")


def facts_of(study: Study) -> list[tuple[str, str]]:
    """The line under the title: who, how many, how often, by which version."""
    facts = []
    if study.cohort is not None:
        counts = study.cohort["split"].value_counts()
        parts = [
            f"{counts[part]} {word}"
            for part, word in (("train", "training"), ("validation", "validation"), ("test", "test"))
            if part in counts
        ]
        facts.append(("Subjects", ", ".join(parts) or str(len(study.cohort))))
    seeds = sorted({run.seed for run in study.runs if run.seed}, key=lambda seed: (len(seed), seed))
    if seeds:
        facts.append(("Seeds" if len(seeds) > 1 else "Seed", ", ".join(seeds)))
    versions = sorted({str(run.facts["version"]) for run in study.runs if run.facts.get("version")})
    facts.append(("copdvae", ", ".join(versions) or __version__))
    digest = study.evaluation.get("config_hash") or study.evaluation.get("config")
    if isinstance(digest, str):
        facts.append(("Configuration", digest))
    return facts


def cards(best: dict[str, Any], study: Study) -> list[dict[str, Any]]:
    """One card a target: the best representation's score."""
    found = []
    for target, row in best.items():
        share = row["share"]
        found.append(
            {
                "target": shown.target_name(target),
                "metric": shown.metric_name(row["metric"]),
                "value": shown.number(row["value"]),
                "interval": shown.interval(row["low"], row["high"]),
                "share": None if share != share else shown.percent(max(0, share)),
                "bar": None if share != share else round(min(max(float(share), 0), 1) * 100, 1),
                "method": shown.method_name(row["method"]),
                "colour": KIND_COLOURS[study.kind(row["method"])],
            }
        )
    order = [shown.target_name(target) for target in TARGETS]
    return sorted(found, key=lambda card: order.index(card["target"]) if card["target"] in order else len(order))


def lede(study: Study, best: dict[str, Any]) -> str:
    """The finding in two sentences that need no statistics."""
    row = best.get("fev1_pp")
    if row is None:
        return ""
    name, explained = shown.method_name(row["method"]), shown.percent(max(row["value"], 0))
    tested = ""
    if study.cohort is not None and "fev1_pp" in study.cohort:
        scored = int(((study.cohort["split"] == "test") & study.cohort["fev1_pp"].notna()).sum())  # those without a value are not scored
        tested = f" in the {scored} test subjects with a known value, whom training never saw"
    found = f"From the CT alone, the best representation ({name}) explains {explained} of the differences in FEV1 % predicted{tested}."
    if row["share"] != row["share"]:
        return found
    return f"{found} That is {shown.percent(max(row['share'], 0))} of what could be reached if the true disease were known."


def traversal_of(study: Study, method: str, runs: list[Any]) -> dict[str, Any] | None:
    """The pictures of the first run of a method that has any."""
    found = ((run, figures.traversal(study, run)) for run in runs)
    return next(({"name": shown.method_name(method), "seed": run.seed} | entry for run, entry in found if entry), None)


def agreements(study: Study, best: dict[str, Any]) -> list[dict[str, Any]]:
    """Calibration and Bland-Altman plots of the best representation, a tab a target."""
    found = []
    for target, row in best.items():
        points = tables.middle_seed(study, row["method"], target) if target != "gold" else ()
        if len(points) > 2:
            facts = tables.agreement(points)  # type: ignore[arg-type]
            found.append(
                {
                    "target": shown.target_name(target),
                    "method": shown.method_name(row["method"]),
                    "figure": figures.agreement_figure(points, target),  # type: ignore[arg-type]
                    "facts": {key: shown.number(value, 2 if key == "slope" else 1) for key, value in facts.items()} | {"n": facts["n"]},
                    "drawn": min(facts["n"], figures.MOST_DOTS // 2),
                }
            )
    order = [shown.target_name(target) for target in TARGETS]
    return sorted(found, key=lambda entry: order.index(entry["target"]) if entry["target"] in order else len(order))


def cohorts(study: Study, small: int) -> list[dict[str, Any]]:
    if study.cohort is None:
        return []
    found = [{"name": "By split", "table": cohort.cohort_table(study.cohort, "split", small)}]
    if "gold" in study.cohort and study.cohort["gold"].notna().any():
        found.append({"name": "By GOLD category", "table": cohort.cohort_table(study.cohort, "gold", small)})
    return found


def rejected(study: Study, small: int) -> list[dict[str, str]]:
    """Rejected subjects, those that were not expected first; none by name where small cells are hidden."""
    if study.rejected is None or small:
        return []
    rows = [{"detail": "", "expected": "", "visit": ""} | row for row in study.rejected.to_dict("records")]
    return sorted(rows, key=lambda row: row["expected"] == "yes")[:MOST_LISTED]  # type: ignore[return-value]


def describe(study: Study, method: str) -> str:
    """A plain sentence on a method: our own words, or the run's."""
    if method in METHODS:
        return METHODS[method][1]
    facts = [run.facts for run in study.runs if run.method == method]
    about = next((str(fact["about"]) for fact in facts if fact.get("about")), "")
    base = next((str(fact["method"]) for fact in facts if fact.get("method") in METHODS), "")
    return about or (f"A variant of {METHODS[base][0]}: {METHODS[base][1]}" if base else "")


def figure_tag(spec: dict[str, Any]) -> Markup:
    """A Plotly figure as a box that the page's script fills once it comes into view."""
    height = int(spec["layout"]["height"])
    box = '<div class="scroll"><div class="plot" style="min-height:{}px"><script type="application/json">{}</script></div></div>'
    return Markup(box).format(height, embedded({"data": spec["data"], "layout": spec["layout"]}))


def data_tag(identity: str, value: Any) -> Markup:
    return Markup('<script type="application/json" id="{}">{}</script>').format(identity, embedded(value))


def embedded(value: Any) -> Markup:
    """JSON that is safe inside a script element."""
    text = json.dumps(figures.plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def source_of(name: str) -> Markup:
    return Markup((files("copdvae.report") / "templates" / name).read_text(encoding="utf-8"))
