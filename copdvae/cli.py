"""The command line: one command for each arrow of the data flow. Results go to stdout or a file, messages to stderr."""

from pathlib import Path
from typing import Annotated

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
