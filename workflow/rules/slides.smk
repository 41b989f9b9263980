# Slides -> tiles -> features. A job is a bucket of slides; a bad slide is a row with its reason.
#
# The sheet is no input, so that touching it runs nothing again: what it says of a bucket is in the
# bucket's params. Only the demo's sheet is one, because the workflow writes it; `settled` keeps a
# slide more from running every bucket again.

if CONFIG.demo:

    rule demo_slides:
        output:
            sheet=f"{ROOT}/slides/slides.tsv",
        log:
            f"{ROOT}/logs/demo_slides.log",
        benchmark:
            f"{ROOT}/benchmarks/demo_slides.tsv"
        conda:
            "../../environment.yml"
        threads: 2
        params:
            options=literal(SETTINGS.section("demo")),
            folder=subpath(output.sheet, parent=True),
            version=SETTINGS.versions("demo"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} demo --options {params.options:q}"
            " --out {params.folder:q} --threads {threads:q}"


if any(map(fetch_of, COHORTS.values())):

    # The manifest is temporary and the copies are no outputs: Snakemake removes it when tiles and
    # features are finished, and asks for it again when they are to be made anew. The copies survive
    # a failed or killed job, which goes on where it was; the last encoder's `features` drops them.
    rule fetch:
        input:
            # So that the slides of no more buckets than allowed are on the disk at a time.
            buckets_before,
        output:
            manifest=temp(f"{ROOT}/slides/bucket-{{bucket}}.tsv"),
        log:
            f"{ROOT}/logs/fetch/bucket-{{bucket}}.log",
        benchmark:
            f"{ROOT}/benchmarks/fetch/bucket-{{bucket}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=1440,
        params:
            sheet=sheet_of,
            options=lambda wildcards: fetch_of(cohort(wildcards)).model_dump_json(),
            buckets=CONFIG.buckets,
            folder=slides_of,
            finished=lambda wildcards: finished(wildcards, *CONFIG.encoders),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} fetch --sheet {params.sheet:q}"
            " --bucket {wildcards.bucket:q} --buckets {params.buckets:q}"
            " --options {params.options:q} --slides {params.folder:q} {params.finished:q}"
            " --manifest {output.manifest:q}"


if READS_SLIDES:

    rule tiles:
        input:
            demo=lambda wildcards: demo_sheet(
                f"{ROOT}/tiles/bucket-{wildcards.bucket}.stamp",
                DIGESTS.tiles(int(wildcards.bucket)),
            ),
            fetched=fetched,
        output:
            manifest=f"{ROOT}/tiles/bucket-{{bucket}}.tsv",
            stamp=f"{ROOT}/tiles/bucket-{{bucket}}.stamp",
        log:
            f"{ROOT}/logs/tiles/bucket-{{bucket}}.log",
        benchmark:
            f"{ROOT}/benchmarks/tiles/bucket-{{bucket}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=720,
            slide_minutes=SLIDE_MINUTES,
        params:
            sheet=sheet_of,
            options=literal(SETTINGS.section("tiling")),
            digest=lambda wildcards: digests(wildcards).tiles(int(wildcards.bucket)),
            buckets=CONFIG.buckets,
            folder=subpath(output.manifest, parent=True),
            copies=lambda wildcards: copies(wildcards, "--fetched"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} tiles --sheet {params.sheet:q} {params.copies:q}"
            " --bucket {wildcards.bucket:q} --buckets {params.buckets:q}"
            " --options {params.options:q} --out {params.folder:q}"
            " --manifest {output.manifest:q} --threads {threads:q}"
            " --slide-minutes {resources.slide_minutes:q}"
            " && printf %s {params.digest:q} > {output.stamp:q}"

    rule features:
        input:
            tiles=f"{ROOT}/tiles/bucket-{{bucket}}.tsv",
            fetched=fetched,
        output:
            manifest=f"{ROOT}/features/{{encoder}}/bucket-{{bucket}}.tsv",
            facts=f"{ROOT}/features/{{encoder}}/bucket-{{bucket}}.json",
        log:
            f"{ROOT}/logs/features/{{encoder}}/bucket-{{bucket}}.log",
        benchmark:
            f"{ROOT}/benchmarks/features/{{encoder}}/bucket-{{bucket}}.tsv"
        conda:
            "../../environment.yml"
        threads: FEATURE_THREADS
        resources:
            gpu=GPU,
            mem_mb=8000,
            runtime=1440,
            slide_minutes=SLIDE_MINUTES,
        params:
            sheet=sheet_of,
            options=lambda wildcards: SETTINGS.extraction(wildcards.encoder),
            weights=lambda wildcards: DIGESTS.weights(wildcards.encoder),
            rows=lambda wildcards: digests(wildcards).features(
                int(wildcards.bucket), wildcards.encoder
            ),
            buckets=CONFIG.buckets,
            tiles=subpath(input.tiles, parent=True),
            folder=subpath(output.manifest, parent=True),
            version=SETTINGS.versions("features"),
            copies=copies,
            drop=dropping,
        shell:
            "python -m wsi_ncmi.cli --log {log:q} features --sheet {params.sheet:q} {params.copies:q}"
            " --bucket {wildcards.bucket:q} --buckets {params.buckets:q}"
            " --options {params.options:q} --tiles {params.tiles:q}"
            " --out {params.folder:q} --manifest {output.manifest:q}"
            " --threads {threads:q} --slide-minutes {resources.slide_minutes:q}{params.drop}"
