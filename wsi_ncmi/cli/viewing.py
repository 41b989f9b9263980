"""`wsi-ncmi view`: slides and what was found on them, in the browser."""

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()


@commands.command("view")
@click.argument("what", required=False)
@option.config()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port on the loopback; 0 takes any.  [default: 8484, or any that is free]",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--remote", is_flag=True, help="Read slides at addresses over the network too.")
def view(
    what: str | None,
    config: option.Paths,
    port: int | None,
    no_browser: bool,
    remote: bool,
) -> None:
    """Show slides and results in the browser.

    WHAT is results/<cohort>, finished or not. Without it, the results of --config. The page is
    served to this machine alone, and nothing is written.
    """
    from wsi_ncmi.address import expanded
    from wsi_ncmi.tools.view import command as stage
    from wsi_ncmi.tools.view.given import Given, source_of
    from wsi_ncmi.tools.view.page import read_page

    page = read_page()
    given = Given(expanded(what) if what else "", config, remote)
    source, settings = source_of(given)
    stage.serve(source, page, settings, port, browse=not no_browser, remote=remote)
