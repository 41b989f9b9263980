# What is said when a run ends: where the report is, or the end of each failed job's log.
import time

from snakemake.logging import logger

STARTED = time.time()


onsuccess:
    from wsi_ncmi.tools.status import ending

    said = ending.well(Path(ROOT), STARTED)
    if said:
        logger.info(said)


onerror:
    from wsi_ncmi.tools.status import ending

    said = ending.badly(
        Path(ROOT), STARTED, [Path(DATA_SETS, name) for name in SOURCES]
    )
    if said:
        logger.error(said)
