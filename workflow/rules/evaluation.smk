# Runs -> statistics, heatmaps, report.

FIGURES = ("macro_f1", "confusion", "curves", "reliability")


rule evaluate:
    input:
        manifests=seeds,
        splits=f"{ROOT}/runs/{{task}}/splits.tsv",
        index=[] if CONFIG.images else f"{CACHE}/index.tsv",
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
        options=PLAN.section("evaluation"),
        reference=lambda wildcards: PLAN.task(wildcards.task).reference,
        index=lambda wildcards, input: f"--index {input.index}" if input.index else "",
        task=subpath(input.splits, parent=True),
        folder=subpath(output.summary, parent=True),
        version=PLAN.versions("evaluate"),
    shell:
        "python -m wsi_ncmi.cli --log {log:q} evaluate --task-dir {params.task:q}"
        " --manifests {input.manifests:q} {params.index}"
        " --options {params.options:q} --reference {params.reference:q}"
        " --out {params.folder:q}"


rule attention:
    input:
        manifest=first_seed,
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
    params:
        options=PLAN.section("attention"),
        task=lambda wildcards: PLAN.task_json(wildcards.task),
        annotations=[row.annotation for row in PLAN.rows],
        sheet=PLAN.sheet,
        cache=CACHE,
        tiles=lambda wildcards, input: str(Path(input.tiles[0]).parent),
        task_dir=subpath(input.manifest, parent=True),
        folder=subpath(output.summary, parent=True),
        version=PLAN.versions("attention"),
    shell:
        "python -m wsi_ncmi.cli --log {log:q} attention --task {params.task:q}"
        " --sheet {params.sheet:q} --cache {params.cache:q} --tiles {params.tiles:q}"
        " --task-dir {params.task_dir:q} --options {params.options:q}"
        " --out {params.folder:q}"


rule html_report:
    input:
        evaluations=[
            f"{ROOT}/runs/{name}/evaluation/summary.json" for name in PLAN.task_names
        ],
        attention=[
            f"{ROOT}/runs/{name}/attention/summary.json"
            for name in PLAN.task_names
            if PLAN.has_attention(name)
        ],
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
        config=CONFIG.model_dump_json(),
        rows=PLAN.rows_digest(PLAN.rows),
        sheet=f"--sheet {PLAN.sheet}" if PLAN.sheet else "",
        root=subpath(output[0], ancestor=2),
        version=PLAN.versions("report"),
    shell:
        "python -m wsi_ncmi.cli --log {log:q} report --results {params.root:q}"
        " --config {params.config:q} {params.sheet} --out {output:q}"
