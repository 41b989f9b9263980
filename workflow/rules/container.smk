# What all jobs run in under `--sdm apptainer`; nothing else looks at it.
import os
from pathlib import Path

IMAGE = os.environ.get("WSI_NCMI_IMAGE", "wsi-ncmi.sif")
RUNS_IN_IT = "apptainer" in map(str, workflow.deployment_settings.deployment_method)

if RUNS_IN_IT and "://" not in IMAGE and not Path(IMAGE).exists():
    raise WorkflowError(
        f"{IMAGE}: no such container image: build it (apptainer build {IMAGE} apptainer.def), or "
        "name another file or an address, such as docker://registry/name:tag, in WSI_NCMI_IMAGE"
    )

if "WSI_NCMI_IMAGE" in os.environ:

    envvars:
        "WSI_NCMI_IMAGE",  # for jobs on other machines


container: IMAGE
