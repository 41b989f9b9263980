# A labelled second cohort: made by the same rules as the cohort itself, in a folder below it, and
# scored by every model of a task. Nothing here is an input of training: what changes here trains
# nothing again, and what is trained again is only scored again.

if any(fetch_of(cohort) for cohort in CHECKED.external.values()):

    use rule fetch as external_fetch with:
        output:
            manifest=temp(f"{OUTSIDE}/slides/bucket-{{bucket}}.tsv"),
        log:
            f"{ROOT}/logs/external/{{external}}/fetch/bucket-{{bucket}}.log",
        benchmark:
            f"{ROOT}/benchmarks/external/{{external}}/fetch/bucket-{{bucket}}.tsv"


if READS_SLIDES and CHECKED.external:

    use rule tiles as external_tiles with:
        input:
            fetched=fetched,
        output:
            manifest=f"{OUTSIDE}/tiles/bucket-{{bucket}}.tsv",
            stamp=f"{OUTSIDE}/tiles/bucket-{{bucket}}.stamp",
        log:
            f"{ROOT}/logs/external/{{external}}/tiles/bucket-{{bucket}}.log",
        benchmark:
            f"{ROOT}/benchmarks/external/{{external}}/tiles/bucket-{{bucket}}.tsv"

    use rule features as external_features with:
        input:
            tiles=f"{OUTSIDE}/tiles/bucket-{{bucket}}.tsv",
            fetched=fetched,
        output:
            manifest=f"{OUTSIDE}/features/{{encoder}}/bucket-{{bucket}}.tsv",
            facts=f"{OUTSIDE}/features/{{encoder}}/bucket-{{bucket}}.json",
        log:
            f"{ROOT}/logs/external/{{external}}/features/{{encoder}}/bucket-{{bucket}}.log",
        benchmark:
            f"{ROOT}/benchmarks/external/{{external}}/features/{{encoder}}/bucket-{{bucket}}.tsv"

    use rule pack as external_pack with:
        output:
            index=f"{OUTSIDE}/cache/{{encoder}}/index.tsv",
            encoder=f"{OUTSIDE}/cache/{{encoder}}/encoder.json",
        log:
            f"{ROOT}/logs/external/{{external}}/pack/{{encoder}}.log",
        benchmark:
            f"{ROOT}/benchmarks/external/{{external}}/pack/{{encoder}}.tsv"


if CONFIG.bags and CHECKED.external:

    use rule import_bags as external_import_bags with:
        output:
            index=f"{OUTSIDE}/cache/{{encoder}}/index.tsv",
            encoder=f"{OUTSIDE}/cache/{{encoder}}/encoder.json",
        log:
            f"{ROOT}/logs/external/{{external}}/import_bags/{{encoder}}.log",
        benchmark:
            f"{ROOT}/benchmarks/external/{{external}}/import_bags/{{encoder}}.tsv"


if CHECKED.external:

    rule external:
        input:
            manifests=seeds,
            splits=f"{ROOT}/runs/{{task}}/splits.tsv",
            own=index_of,
            index=index_outside,
        output:
            summary=f"{ROOT}/runs/{{task}}/external/{{external}}/summary.json",
        log:
            f"{ROOT}/logs/external/{{external}}/score/{{task}}.log",
        benchmark:
            f"{ROOT}/benchmarks/external/{{external}}/score/{{task}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            gpu=GPU,
            mem_mb=16000,
            runtime=1440,
        params:
            task=lambda wildcards: SETTINGS.external(wildcards.task),
            options=literal(SETTINGS.section("evaluation")),
            reference=lambda wildcards: CHECKED.task(wildcards.task).reference,
            ordinal=lambda wildcards: (
                "--ordinal" if CHECKED.task(wildcards.task).ordinal else ""
            ),
            labels=lambda wildcards: digests(wildcards).labels(wildcards.task),
            sheet=sheet_of,
            tiles=tiles_made,
            cache=subpath(input.index, parent=True),
            own=subpath(input.own, parent=True),
            task_dir=subpath(input.splits, parent=True),
            folder=subpath(output.summary, parent=True),
            version=SETTINGS.versions("external"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} external --name {wildcards.external:q}"
            " --task {params.task:q} --sheet {params.sheet:q} --cache {params.cache:q}"
            " --own-cache {params.own:q} {params.tiles:q} --task-dir {params.task_dir:q}"
            " --manifests {input.manifests:q} --options {params.options:q}"
            " --reference {params.reference:q} {params.ordinal:q} --out {params.folder:q}"
