# The image branch: networks under the same objectives, to the same runs.

if CONFIG.images:

    rule image_splits:
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
            images=lambda wildcards: DIGESTS.images(wildcards.task),
            version=SETTINGS.versions("images"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} images splits --task {params.task:q}"
            " --out {output:q}"

    rule train_images:
        input:
            splits=f"{ROOT}/runs/{{task}}/splits.tsv",
        output:
            f"{ROOT}/runs/{{task}}/seed-{{seed}}.tsv",
        log:
            f"{ROOT}/logs/train/{{task}}/seed-{{seed}}.log",
        benchmark:
            f"{ROOT}/benchmarks/train/{{task}}/seed-{{seed}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            gpu=GPU,
            mem_mb=16000,
            runtime=1440,
        params:
            task=lambda wildcards: SETTINGS.training(wildcards.task),
            cohort=CONFIG.cohort,
            folder=subpath(output[0], parent=True),
            images=lambda wildcards: DIGESTS.images(wildcards.task),
            version=SETTINGS.versions("images"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} images train --name {wildcards.task:q}"
            " --task {params.task:q} --cohort {params.cohort:q}"
            " --seed {wildcards.seed:q} --out {params.folder:q} --threads {threads:q}"
