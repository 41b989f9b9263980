# Bags -> packed cache -> splits -> training.
#
# A slide more repacks the cache, and only the tasks that it belongs to train again (`settled`).
# Evaluation compares what was trained on with what is there.

if READS_SLIDES:

    rule pack:
        input:
            manifests=bags_made,
        output:
            index=f"{ROOT}/cache/{{encoder}}/index.tsv",
            encoder=f"{ROOT}/cache/{{encoder}}/encoder.json",
        log:
            f"{ROOT}/logs/pack/{{encoder}}.log",
        benchmark:
            f"{ROOT}/benchmarks/pack/{{encoder}}.tsv"
        conda:
            "../../environment.yml"
        params:
            features=lambda wildcards, input: str(Path(input.manifests[0]).parent),
            sheet=sheet_of,
            sections=lambda wildcards: SETTINGS.making(wildcards.encoder),
            tries=tries_of,
            folder=subpath(output.index, parent=True),
            version=SETTINGS.versions("pack"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} pack --features {params.features:q}"
            " --manifests {input.manifests:q} --sheet {params.sheet:q}"
            " --sections {params.sections:q} --out {params.folder:q}"


if CONFIG.bags:

    # The bags are no input: the digest follows every one of them, and braces of a path are text.
    rule import_bags:
        output:
            index=f"{ROOT}/cache/{{encoder}}/index.tsv",
            encoder=f"{ROOT}/cache/{{encoder}}/encoder.json",
        log:
            f"{ROOT}/logs/import_bags/{{encoder}}.log",
        benchmark:
            f"{ROOT}/benchmarks/import_bags/{{encoder}}.tsv"
        conda:
            "../../environment.yml"
        params:
            bags=lambda wildcards: Settings(cohort(wildcards)).bags(wildcards.encoder),
            digest=lambda wildcards: digests(wildcards).imported(
                cohort(wildcards).rows, wildcards.encoder
            ),
            tries=tries_of,
            folder=subpath(output.index, parent=True),
            version=SETTINGS.versions("pack"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} pack --bags {params.bags:q} --out {params.folder:q}"


if CONFIG.tasks:

    rule splits:
        input:
            lambda wildcards: demo_sheet(
                f"{ROOT}/runs/{wildcards.task}/splits.stamp",
                DIGESTS.splits(wildcards.task),
            ),
        output:
            splits=f"{ROOT}/runs/{{task}}/splits.tsv",
            stamp=f"{ROOT}/runs/{{task}}/splits.stamp",
        log:
            f"{ROOT}/logs/splits/{{task}}.log",
        benchmark:
            f"{ROOT}/benchmarks/splits/{{task}}.tsv"
        conda:
            "../../environment.yml"
        params:
            task=lambda wildcards: SETTINGS.splits(wildcards.task),
            sheet=literal(CHECKED.sheet_path),
            digest=lambda wildcards: DIGESTS.splits(wildcards.task),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} splits --sheet {params.sheet:q}"
            " --task {params.task:q} --out {output.splits:q}"
            " && printf %s {params.digest:q} > {output.stamp:q}"

    rule train:
        input:
            index=lambda wildcards: settled_index(
                f"{ROOT}/runs/{wildcards.task}/seed-{wildcards.seed}.stamp", wildcards
            ),
            splits=f"{ROOT}/runs/{{task}}/splits.tsv",
        output:
            manifest=f"{ROOT}/runs/{{task}}/seed-{{seed}}.tsv",
            stamp=f"{ROOT}/runs/{{task}}/seed-{{seed}}.stamp",
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
            digest=lambda wildcards: DIGESTS.train(wildcards.task),
            cohort=CONFIG.cohort,
            encoder=lambda wildcards: CONFIG.encoder_of(wildcards.task),
            cache=subpath(input.index, parent=True),
            folder=subpath(output.manifest, parent=True),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} train --name {wildcards.task:q} --task {params.task:q}"
            " --cohort {params.cohort:q} --encoder {params.encoder:q}"
            " --seed {wildcards.seed:q} --cache {params.cache:q}"
            " --splits {input.splits:q} --out {params.folder:q} --threads {threads:q}"
            " && printf %s {params.digest:q} > {output.stamp:q}"
