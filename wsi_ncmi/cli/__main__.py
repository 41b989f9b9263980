"""`python -m wsi_ncmi.cli`, as the workflow's rules call it."""

from wsi_ncmi.cli import main

main()
