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
