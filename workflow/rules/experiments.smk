# What an experiment makes of all image tasks together.

if CONFIG.experiment:

    rule experiment:
        input:
            evaluations(),
        output:
            findings(),
        log:
            f"{ROOT}/logs/experiment.log",
        benchmark:
            f"{ROOT}/benchmarks/experiment.tsv"
        conda:
            "../../environment.yml"
        threads: FEATURE_THREADS
        resources:
            gpu=GPU,
            mem_mb=16000,
            runtime=1440,
        params:
            config=literal(SETTINGS.experiment),
            root=subpath(output[0], ancestor=2),
            version=SETTINGS.versions("experiment"),
        shell:
            "python -m wsi_ncmi.cli --log {log:q} experiment --results {params.root:q}"
            " --config {params.config:q} --out {output:q}"
