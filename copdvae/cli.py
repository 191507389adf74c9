"""The command line: one command for each arrow of the data flow. Results go to stdout or a file, messages to stderr."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from copdvae.errors import CopdvaeError, Stopped

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Out = Annotated[Path, typer.Argument(help="Folder to write into.")]


@app.callback()
def copdvae() -> None:
    """What a chest CT says about how ill the lungs are. Research use only."""


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


def main() -> None:
    try:
        app()
    except Stopped as stop:
        typer.echo(f"copdvae: {stop}", err=True)
        raise SystemExit(75) from None
    except CopdvaeError as error:
        typer.echo(f"copdvae: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
