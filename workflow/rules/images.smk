# The image branch: networks under the same objectives, to the same runs.

if CONFIG.images:

    rule image_index:
        output:
            f"{DATA_SETS}/{{source}}/summary.json",
        log:
            f"{DATA_SETS}/{{source}}/index.log",
        benchmark:
            f"{DATA_SETS}/{{source}}/benchmark.tsv"
        conda:
            "../../environment.yml"
        threads: 8
        resources:
            mem_mb=8000,
            runtime=1440,
        params:
            task=lambda wildcards: SETTINGS.image_index(SOURCES[wildcards.source]),
            images=lambda wildcards: DIGESTS.images(SOURCES[wildcards.source]),
            version=SETTINGS.versions("image_index"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} images index --task {params.task:q}"
            " --out {output:q} --threads {threads:q}"

    rule image_splits:
        input:
            index_of_images,
        output:
            f"{ROOT}/runs/{{task}}/splits.tsv",
        log:
            f"{ROOT}/logs/splits/{{task}}.log",
        benchmark:
            f"{ROOT}/benchmarks/splits/{{task}}.tsv"
        conda:
            "../../environment.yml"
        params:
            task=lambda wildcards: SETTINGS.image_splits(wildcards.task),
            index=subpath(input[0], parent=True),
            images=lambda wildcards: DIGESTS.images(wildcards.task),
            version=SETTINGS.versions("images"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} images splits --task {params.task:q}"
            " --index {params.index:q} --out {output:q}"

    rule train_images:
        input:
            index=index_of_images,
            splits=f"{ROOT}/runs/{{task}}/splits.tsv",
        output:
            f"{ROOT}/runs/{{task}}/seed-{{seed}}.tsv",
        log:
            f"{ROOT}/logs/train/{{task}}/seed-{{seed}}.log",
        benchmark:
            f"{ROOT}/benchmarks/train/{{task}}/seed-{{seed}}.tsv"
        conda:
            "../../environment.yml"
        threads: FEATURE_THREADS
        resources:
            gpu=GPU,
            mem_mb=16000,
            runtime=1440,
        params:
            task=lambda wildcards: SETTINGS.training(wildcards.task),
            cohort=CONFIG.cohort,
            folder=subpath(output[0], parent=True),
            index=subpath(input.index, parent=True),
            images=lambda wildcards: DIGESTS.images(wildcards.task),
            version=SETTINGS.versions("images"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} images seed --name {wildcards.task:q}"
            " --task {params.task:q} --cohort {params.cohort:q}"
            " --seed {wildcards.seed:q} --index {params.index:q} --out {params.folder:q}"
            " --threads {threads:q}"
