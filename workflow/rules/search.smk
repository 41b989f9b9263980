# Candidate settings of every arm, on one fold, by validation alone -> the best of each.
#
# Nothing of `all` depends on it: `snakemake search` writes chosen.yaml, and the comparison is run
# with that as a second --configfile. The trials themselves are no outputs: what was tried is kept.

if CONFIG.tasks:

    rule search_arm:
        input:
            index=index_of,
            splits=f"{ROOT}/runs/{{task}}/splits.tsv",
        output:
            f"{ROOT}/search/{{task}}/{{arm}}.tsv",
        log:
            f"{ROOT}/logs/search/{{task}}/{{arm}}.log",
        benchmark:
            f"{ROOT}/benchmarks/search/{{task}}/{{arm}}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            gpu=GPU,
            mem_mb=16000,
            runtime=1440,
        params:
            task=lambda wildcards: SETTINGS.search(wildcards.task, wildcards.arm),
            cohort=CONFIG.cohort,
            encoder=lambda wildcards: CONFIG.encoder_of(wildcards.task),
            seed=lambda wildcards: CHECKED.task(wildcards.task).seeds[0],
            cache=subpath(input.index, parent=True),
            version=SETTINGS.versions("train"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} search bags --name {wildcards.task:q}"
            " --task {params.task:q} --cohort {params.cohort:q} --encoder {params.encoder:q}"
            " --seed {params.seed:q} --cache {params.cache:q} --splits {input.splits:q}"
            " --out {output:q} --threads {threads:q}"


if CONFIG.images:

    rule search_image_arm:
        input:
            index_of_images,
        output:
            f"{ROOT}/search/{{task}}/{{arm}}.tsv",
        log:
            f"{ROOT}/logs/search/{{task}}/{{arm}}.log",
        benchmark:
            f"{ROOT}/benchmarks/search/{{task}}/{{arm}}.tsv"
        conda:
            "../../environment.yml"
        threads: FEATURE_THREADS
        resources:
            gpu=GPU,
            mem_mb=16000,
            runtime=1440,
        params:
            task=lambda wildcards: SETTINGS.search(wildcards.task, wildcards.arm),
            cohort=CONFIG.cohort,
            seed=lambda wildcards: CHECKED.task(wildcards.task).seeds[0],
            index=subpath(input[0], parent=True),
            images=lambda wildcards: DIGESTS.images(wildcards.task),
            version=SETTINGS.versions("images"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} search images --name {wildcards.task:q}"
            " --task {params.task:q} --cohort {params.cohort:q} --seed {params.seed:q}"
            " --index {params.index:q} --out {output:q} --threads {threads:q}"


rule search:
    input:
        searched,
    output:
        log=f"{ROOT}/search/search.tsv",
        chosen=f"{ROOT}/search/chosen.yaml",
    log:
        f"{ROOT}/logs/search.log",
    benchmark:
        f"{ROOT}/benchmarks/search.tsv"
    conda:
        "../../environment.yml"
    params:
        section="images" if CONFIG.images else "tasks",
    shell:
        "python -m wsi_ncmi.cli --log {log:q} search choose --section {params.section:q}"
        " --tables {input:q} --log-table {output.log:q} --out {output.chosen:q}"
