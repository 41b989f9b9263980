# The environment of the workflow's jobs, at the versions of constraints.txt, and the workflow itself.
#
#   docker build -t wsi-ncmi .
#   docker run --rm --gpus all -v "$PWD:/data" wsi-ncmi \
#     snakemake --snakefile /opt/source/Snakefile --cores 8 --configfile my.yaml
#
# PyTorch's wheels bring CUDA with them: of the host a GPU needs the driver alone. apptainer.def has
# the same steps; docs/scale.md says how jobs run in the image.
FROM debian:bookworm-slim

# rsync: of the storage plugin `fs`, on Kubernetes and AWS Batch (docs/scale.md).
# Debian's own security updates are wanted: their versions are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv rsync \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/wsi-ncmi
ENV PATH=/opt/wsi-ncmi/bin:$PATH

# The dependencies are a layer of their own, which a change of the code leaves as it is.
WORKDIR /opt/source
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir wsi_ncmi \
    && touch wsi_ncmi/__init__.py \
    && pip install --no-cache-dir -c constraints.txt .

COPY wsi_ncmi wsi_ncmi
COPY workflow workflow
COPY config config
COPY profiles profiles
COPY Snakefile environment.yml ./
RUN pip install --no-cache-dir --no-deps --force-reinstall . \
    && wsi-ncmi --help > /dev/null

WORKDIR /data
