"""`wsi-ncmi view`: slides and what was found on them, in the browser."""

from pathlib import Path

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()


@commands.command("view")
@click.argument("what", required=False)
@option.paths("--attention", "Files of attention on slides that are shown.")
@option.path("--predictions", "Folder that `predict` wrote, shown beside.", required=False)
@option.config()
@option.number("--mpp", float, "µm per level-0 pixel of a slide that does not state it.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port on the loopback; 0 takes any.  [default: 8484, or any that is free]",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--remote", is_flag=True, help="Read slides at addresses over the network too.")
@option.target(
    "--export", "folder", "Write a folder that opens without a server instead.", required=False
)
@click.option("--slides", multiple=True, metavar="ID...", help="The slides to export.")
@option.number("--most-gb", float, "Largest folder to export.", 1.0)
def view(
    what: str | None,
    attention: option.Paths,
    predictions: Path | None,
    config: option.Paths,
    mpp: float | None,
    port: int | None,
    no_browser: bool,
    remote: bool,
    export: Path | None,
    slides: tuple[str, ...],
    most_gb: float,
) -> None:
    """Show slides and results.

    WHAT is results/<cohort>, finished or not, a folder that `predict` wrote, or a slide. Without
    it, the results of --config, which also says where the slide sheet is. The page is served to
    this machine alone, and nothing is written.
    """
    from wsi_ncmi.address import expanded
    from wsi_ncmi.errors import UserError
    from wsi_ncmi.tools.view import command as stage
    from wsi_ncmi.tools.view import export as bundle
    from wsi_ncmi.tools.view.given import Given, source_of
    from wsi_ncmi.tools.view.page import read_page

    page = read_page()
    given = Given(expanded(what) if what else "", config, attention, predictions, mpp, remote)
    source, settings = source_of(given)
    if export is not None:
        bundle.export(source, page, settings, export, slides, most_gb, remote=remote)
        return
    if slides:
        raise UserError("--slides is of --export")
    stage.serve(source, page, settings, port, browse=not no_browser, remote=remote)
