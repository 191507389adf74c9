"""The command line: one command for each arrow of the data flow. Results go to stdout or a file, messages to stderr."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from copdvae.errors import CopdvaeError, Stopped, printable

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Out = Annotated[Path, typer.Argument(help="Folder to write into.")]
Gaps = Annotated[bool, typer.Option("--allow-gaps", help="Make up missing or uneven slices between their neighbours.")]
Tilt = Annotated[bool, typer.Option("--resample-tilt", help="Shear a tilted stack upright, air around it.")]


@app.callback()
def copdvae() -> None:
    """What a chest CT says about how ill the lungs are. Research use only."""


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False) -> None:
    """List the methods: where each is from, what it is told, what it takes a step, and its settings."""
    from copdvae.methods import as_text, methods

    typer.echo(json.dumps(methods(), indent=1) if as_json else as_text(methods()))


@app.command()
def phantom(
    out: Out,
    subjects: Annotated[int, typer.Option(help="Good subjects; a few that must be refused come on top.")] = 300,
    size: Annotated[int, typer.Option(help="Matrix: 64 gives voxels of about 5 mm.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
    format: Annotated[str, typer.Option(help="dicom or nifti.")] = "dicom",
    spirometry: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Draw the people from this table.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 is one a core.")] = 0,
) -> None:
    """Write a synthetic study: CTs at inspiration and expiration, spirometry, and the truth behind them."""
    from copdvae.phantom import phantom

    typer.echo(phantom(out, subjects, size, seed, format, spirometry, workers) / "manifest.csv")


@app.command()
def spirometry(
    table: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, TSV or XLSX with age, sex, height, FEV1 and FVC.")],
    out: Annotated[Path, typer.Option(help="Where to write: .csv, .parquet or .xlsx.")],
    reference: Annotated[Literal["gli2012", "gli-global", "nhanes3"], typer.Option(help="Reference set.")] = "gli-global",
    column: Annotated[list[str] | None, typer.Option(help="Another name of a column, such as fev1_l=FEV1_post.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="A unit that the median would not tell, such as height_cm=inch.")] = None,
    code: Annotated[list[str] | None, typer.Option(help="What a code means, such as sex.0=F.")] = None,
    default_race: Annotated[str, typer.Option(help="Race of rows that state none, for gli2012 and nhanes3.")] = "",
    pre_bd: Annotated[bool, typer.Option("--pre-bd", help="Measured before the bronchodilator: GOLD is labelled so.")] = False,
    sheet: Annotated[str | None, typer.Option(help="Sheet of a workbook that has several.")] = None,
) -> None:
    """Add predicted values, % predicted, z-scores, lower limits of normal and GOLD to a table."""
    from copdvae.read.tables import read_table
    from copdvae.spirometry.columns import config_from_options
    from copdvae.spirometry.table import grade_table, write_table

    people = read_table(table, sheet)
    graded = grade_table(people, config_from_options(people, reference, column, unit, code, default_race), pre_bd)
    write_table(graded.table, out)
    typer.echo("\n".join([*graded.notes, *graded.summary]), err=True)
    typer.echo(out)


@app.command()
def ct(
    path: Annotated[Path, typer.Argument(help="DICOM folder, or .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd file.")],
    mask: Annotated[Path | None, typer.Option(exists=True, help="Label map of the lungs on the CT's grid.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    png: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw slices with the mask's outline.")] = None,
    series: Annotated[
        str | None, typer.Option(help="Which series of a folder with several: its name, as an error lists it, or UID.")
    ] = None,
    allow_gaps: Gaps = False,
    resample_tilt: Tilt = False,
    denoise: Annotated[str, typer.Option(help="Before densities are measured: none, median or gaussian.")] = "none",
    reference_volume: Annotated[float, typer.Option(help="Litres of lung that Perc15 is adjusted to.")] = 6.0,
    lungmask: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Weights: the mask is lungmask's, not a threshold's.")
    ] = None,
) -> None:
    """Say what is in one CT: geometry, lung volumes, densities."""
    from copdvae.prepare.describe import as_table, describe_ct
    from copdvae.prepare.settings import IngestConfig

    asked = {"allow_gaps": allow_gaps, "resample_tilt": resample_tilt, "denoise": denoise, "reference_volume_l": reference_volume}
    made = {"mask": "lungmask", "lungmask_weights": lungmask} if lungmask else {}
    description = describe_ct(path, mask, png, series, IngestConfig.parse(asked | made, "options"))
    typer.echo(json.dumps(description, indent=1) if as_json else as_table(description))


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of DICOM files, of any depth.")],
    out: Annotated[Path, typer.Option(help="Manifest to write (CSV); it is read from FOLDER, so best FOLDER/manifest.csv.")],
) -> None:
    """Propose a manifest for a tree of DICOM files, by patient and visit; list what could not be placed."""
    from copdvae.prepare.index import describe, index

    result = index(folder, out)
    typer.echo(describe(result), err=True)
    typer.echo(out)
    if out.resolve().parent != folder.resolve():
        typer.echo("copdvae: paths in it are relative to the folder that was indexed: put it there to use it", err=True)
    raise SystemExit(3 if result.unplaced else 0)


StudyFile = Annotated[Path, typer.Argument(exists=True, help="A study file (YAML), or a folder with a study.yaml.")]
Root = Annotated[Path | None, typer.Option(help="Folder that the study's paths start from, in place of its own.")]
Workers = Annotated[int, typer.Option(help="Processes that read scans; 0 is one a core.")]
Jobs = Annotated[int, typer.Option(help="Runs that train at a time; they share the cores.")]


def unexpected(tables) -> None:
    """Exit code 3 where subjects were left out that nobody expected to be."""
    lost = tables.rejected[tables.rejected["expected"] == "no"]
    if len(lost):
        typer.echo(f"copdvae: {len(lost)} rows or scans were rejected, see rejected.csv", err=True)
        raise SystemExit(3)


@app.command()
def validate(study: StudyFile, root: Root = None, workers: Workers = 0) -> None:
    """List every problem of a study's manifest, scans' headers and phenotypes at once; write nothing."""
    from copdvae.prepare.validate import format_problems, validate
    from copdvae.processes import cores
    from copdvae.study import load_study

    loaded = load_study(study, root)
    manifest, phenotypes = loaded.root / loaded.data.manifest, loaded.root / loaded.data.phenotypes
    problems = validate(manifest, phenotypes, loaded.phenotypes, loaded.ingest, workers or cores())
    typer.echo(format_problems(problems), err=True)  # it names paths, and results may be sent anywhere
    fatal = sum(problem.fatal for problem in problems)
    typer.echo(f"{fatal} errors, {len(problems) - fatal} warnings")
    raise SystemExit(1 if fatal else 0)


@app.command()
def ingest(study: StudyFile, root: Root = None, workers: Workers = 0) -> None:
    """Read every scan, find the lungs, measure densities and cut to the grid; split the subjects."""
    from copdvae.run import prepare
    from copdvae.study import load_study
    from copdvae.tables import load_tables

    prepare(loaded := load_study(study, root), workers, lambda line: typer.echo(line, err=True))
    typer.echo(loaded.root / loaded.cache / "index.csv")
    unexpected(load_tables(loaded))


@app.command()
def qc(
    study: StudyFile,
    root: Root = None,
    pictures: Annotated[int, typer.Option(min=0, help="Subjects to draw, those that need a look first; each adds some 15 KB.")] = 2000,
) -> None:
    """Write the page of a study's subjects, ingested or refused: slices with the mask's outline, flags, reasons. It names subjects."""
    from copdvae.run import qc
    from copdvae.study import load_study

    typer.echo(qc(load_study(study, root), pictures))


@app.command()
def train(study: StudyFile, root: Root = None, jobs: Jobs = 1, only: Annotated[str, typer.Option(help="One method's name.")] = "") -> None:
    """Train and encode the study's runs that are not finished; go on with those that were stopped."""
    from copdvae.run import stopping, train
    from copdvae.study import load_study

    with stopping() as stop:
        for folder in train(load_study(study, root).only(only), jobs, lambda line: typer.echo(line, err=True), stop):
            typer.echo(folder)


@app.command()
def evaluate(study: StudyFile, root: Root = None) -> None:
    """Score every run of a study and the baselines, with intervals; print the table."""
    from copdvae.run import evaluate
    from copdvae.study import load_study
    from copdvae.tables import result_table

    typer.echo(result_table(evaluate(load_study(study, root))))


@app.command()
def report(
    study: StudyFile,
    root: Root = None,
    small_cells: Annotated[int, typer.Option(min=0, help="Hide counts below this, and name no subject; 0 hides nothing.")] = 0,
) -> None:
    """Write the page of a study that was evaluated, and the page of its subjects where that is out of date."""
    from copdvae.errors import CopdvaeError, printable
    from copdvae.report import report
    from copdvae.run import qc
    from copdvae.study import load_study

    loaded = load_study(study, root)
    made_of = (loaded.cache / "index.csv", loaded.cache / "rejected.csv", loaded.data.phenotypes)
    if not small_cells and all((loaded.root / path).is_file() for path in made_of):  # results may lie here alone; that page names everyone
        try:
            qc(loaded, renew=False)
        except CopdvaeError as error:  # what the report is made of may be whole all the same
            typer.echo(printable(f"copdvae: the subjects' page is not renewed: {error}"), err=True)
    typer.echo(report(loaded.root / loaded.out, small_cells))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A finished run's folder, OUT/runs/ID.")],
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Manifest of the new scans.")],
    out: Annotated[Path, typer.Option(help="Table to write (CSV).")],
    cache: Annotated[Path | None, typer.Option(help="Where prepared scans go; by default OUT without its ending, and _cache.")] = None,
    workers: Workers = 0,
    allow_gaps: Gaps = False,
    resample_tilt: Tilt = False,
    lungmask: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The weights that the study's masks were made with, if they were.")
    ] = None,
) -> None:
    """Encode new scans with a finished run, prepared as its study's own, and predict from its training subjects. Research use only."""
    from copdvae.predict import predict

    table, rejected = predict(run, manifest, out, cache or out.with_name(out.stem + "_cache"), workers, allow_gaps, resample_tilt, lungmask)
    where = f", see {out.stem}_rejected.csv" if len(rejected) else ""
    typer.echo(f"{len(table)} subjects encoded, {len(rejected)} rejected{where}", err=True)
    typer.echo(out)
    raise SystemExit(3 if len(rejected) else 0)


@app.command()
def run(study: StudyFile, root: Root = None, workers: Workers = 0, jobs: Jobs = 1) -> None:
    """Do whatever of a study is not done yet, from its scans to its report."""
    from copdvae.run import run
    from copdvae.study import load_study

    finish(run(loaded := load_study(study, root), workers, jobs), loaded)


@app.command()
def doctor(study: Annotated[Path | None, typer.Argument(exists=True, help="A study file or folder.")] = None, root: Root = None) -> None:
    """Check the installation and, where a study is named, its folders and every cached subject; exit 1 if something is wrong."""
    from copdvae.doctor import as_text, doctor
    from copdvae.study import load_study

    checks = doctor(None if study is None else load_study(study, root))
    typer.echo("\n".join(map(printable, as_text(checks).splitlines())))
    raise SystemExit(1 if any(check.problem for check in checks) else 0)


@app.command()
def demo(out: Annotated[Path, typer.Argument(help="Folder to write into.")] = Path("demo"), jobs: Jobs = 2) -> None:
    """Write a synthetic study, train four methods on it, and end with the result table and the page."""
    from copdvae.run import run
    from copdvae.study import load_study, packaged_config

    finish(run(loaded := load_study(packaged_config("demo.yaml"), out), 0, jobs), loaded)


data = typer.Typer(no_args_is_help=True, help="Image sets that the papers used.")
app.add_typer(data, name="data")
ImageSetName = Literal["mnist", "fashion_mnist", "yale", "chairs", "cars", "dsprites", "shapes3d", "isaac3d", "celeba"]


@data.command("fetch")
def fetch_data(
    name: Annotated[ImageSetName, typer.Argument(help="Which set.")],
    source: Annotated[Path | None, typer.Option("--from", exists=True, file_okay=False, help="Folder with the set's files.")] = None,
    to: Annotated[Path, typer.Option(help="Folder; the files go to TO/NAME.")] = Path("data"),
) -> None:
    """Download the official files of an image set, or take them from a folder; check them; unpack archives."""
    from copdvae.read.fetch import fetch, shown_on_stderr

    with shown_on_stderr() as progress:
        folder = fetch(name, to, source, lambda line: typer.echo(line, err=True), progress)
    typer.echo(folder)


def finish(tables, study) -> None:
    """The result table, the page's place, and the exit code."""
    import pandas as pd

    from copdvae.tables import result_table

    out = study.root / study.out
    expected = (tables.rejected["expected"] == "yes").sum()
    typer.echo(result_table(pd.read_csv(out / "scores.csv")))
    typer.echo(f"{expected} planted faults were rejected, as they should be" if study.data.planted else "")
    typer.echo(f"scores: {out / 'scores.csv'}\nreport: {out / 'report.html'}")
    unexpected(tables)


def main() -> None:
    try:
        app()
    except Stopped as stop:
        typer.echo(f"copdvae: {stop}", err=True)
        raise SystemExit(75) from None
    except CopdvaeError as error:
        typer.echo(printable(f"copdvae: {error}"), err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
