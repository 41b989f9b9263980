# Runs -> statistics, heatmaps, report.

FIGURES = ("macro_f1", "confusion", "curves", "reliability")


rule evaluate:
    input:
        manifests=seeds,
        splits=f"{ROOT}/runs/{{task}}/splits.tsv",
        index=index_of,
    output:
        summary=f"{ROOT}/runs/{{task}}/evaluation/summary.json",
        metrics=report(
            f"{ROOT}/runs/{{task}}/evaluation/metrics.tsv",
            caption="../report/metrics.rst",
            category="{task}",
        ),
        differences=report(
            f"{ROOT}/runs/{{task}}/evaluation/differences.tsv",
            caption="../report/differences.rst",
            category="{task}",
        ),
        macro_f1=report(
            f"{ROOT}/runs/{{task}}/evaluation/figures/macro_f1.png",
            caption="../report/macro_f1.rst",
            category="{task}",
        ),
        confusion=report(
            f"{ROOT}/runs/{{task}}/evaluation/figures/confusion.png",
            caption="../report/confusion.rst",
            category="{task}",
        ),
        curves=report(
            f"{ROOT}/runs/{{task}}/evaluation/figures/curves.png",
            caption="../report/curves.rst",
            category="{task}",
        ),
        reliability=report(
            f"{ROOT}/runs/{{task}}/evaluation/figures/reliability.png",
            caption="../report/reliability.rst",
            category="{task}",
        ),
    log:
        f"{ROOT}/logs/evaluate/{{task}}.log",
    benchmark:
        f"{ROOT}/benchmarks/evaluate/{{task}}.tsv"
    conda:
        "../../environment.yml"
    params:
        options=literal(SETTINGS.section("evaluation")),
        reference=lambda wildcards: CHECKED.task(wildcards.task).reference,
        ordinal=lambda wildcards: (
            "--ordinal" if CHECKED.task(wildcards.task).ordinal else ""
        ),
        index=lambda wildcards, input: ["--index", input.index] if input.index else [],
        labels=lambda wildcards: DIGESTS.joined_labels(wildcards.task),
        sheet=lambda wildcards: (
            ["--sheet", CHECKED.sheet_path]
            if DIGESTS.joined_labels(wildcards.task)
            else []
        ),
        task=subpath(input.splits, parent=True),
        folder=subpath(output.summary, parent=True),
        version=SETTINGS.versions("evaluate"),
    shell:
        "python -m wsi_ncmi.cli --log {log:q} evaluate --task-dir {params.task:q}"
        " --manifests {input.manifests:q} {params.index:q}"
        " --options {params.options:q} --reference {params.reference:q} {params.ordinal:q}"
        " {params.sheet:q} --out {params.folder:q}"


rule attention:
    input:
        manifest=first_seed,
        index=lambda wildcards: settled_index(
            str(Path(first_seed(wildcards)).with_suffix(".stamp")), wildcards
        ),
        tiles=buckets("tiles"),
    output:
        summary=f"{ROOT}/runs/{{task}}/attention/summary.json",
        heatmaps=report(
            directory(f"{ROOT}/runs/{{task}}/attention/heatmaps"),
            patterns=["{slide}--{aggregator}--{objective}.png"],
            caption="../report/heatmap.rst",
            category="{task}",
            subcategory="heatmaps",
        ),
    log:
        f"{ROOT}/logs/attention/{{task}}.log",
    benchmark:
        f"{ROOT}/benchmarks/attention/{{task}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=16000,
        runtime=240,
        slides=lambda wildcards: WHERE_SLIDES_ARE,
    params:
        options=literal(SETTINGS.section("attention")),
        task=lambda wildcards: SETTINGS.attention(wildcards.task),
        annotations=lambda wildcards: DIGESTS.annotations(wildcards.task),
        sheet=literal(CHECKED.sheet_path),
        cache=subpath(input.index, parent=True),
        tiles=lambda wildcards, input: str(Path(input.tiles[0]).parent),
        task_dir=subpath(input.manifest, parent=True),
        folder=subpath(output.summary, parent=True),
        version=SETTINGS.versions("attention"),
    shell:
        "python -m wsi_ncmi.cli --log {log:q} attention --task {params.task:q}"
        " --sheet {params.sheet:q} --cache {params.cache:q} --tiles {params.tiles:q}"
        " --task-dir {params.task_dir:q} --options {params.options:q} {resources.slides}"
        " --out {params.folder:q}"


rule html_report:
    input:
        evaluations=evaluations(),
        attention=[
            f"{ROOT}/runs/{name}/attention/summary.json"
            for name in CHECKED.task_names
            if CHECKED.has_attention(name)
        ],
        external=validations(),
        experiment=findings(),
        index=(
            []
            if CONFIG.images
            else [f"{cache(encoder)}/index.tsv" for encoder in CONFIG.encoders]
        ),
    output:
        report(
            f"{ROOT}/report/index.html",
            caption="../report/report.rst",
            category="report",
        ),
    log:
        f"{ROOT}/logs/report.log",
    benchmark:
        f"{ROOT}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    params:
        config=literal(CONFIG.model_dump_json()),
        rows=DIGESTS.rows(CHECKED.rows),
        searched=DIGESTS.searched,
        sheet=literal(["--sheet", CHECKED.sheet_path] if CHECKED.sheet_path else []),
        root=subpath(output[0], ancestor=2),
        version=SETTINGS.versions("report"),
    shell:
        "python -m wsi_ncmi.cli --log {log:q} report --results {params.root:q}"
        " --config {params.config:q} {params.sheet:q} --out {output:q}"
