#!/usr/bin/env bash
# A real Slurm on this machine, and the workflow through it: `tests/cluster/slurm.sh`, as root.
#
# Needs Debian's packages (apt-get install slurm-wlm munge) and this project's environment, into whose
# folder of this test the executor plugin is installed. Starts munged, slurmctld and slurmd in a folder
# of their own and ends them. CASES names some of the cases only.
#
#   requeued   trainings whose job Slurm ends and starts again: they go on from their checkpoint
#   node-down  trainings whose node goes down and comes back
#   arrays     the seeds of a task as one array of jobs
#   demo       the demo, every job through sbatch
#
# What it cannot show: several machines, network file systems, GPUs, an accounting database.
set -euo pipefail
REPO=$(cd "$(dirname "$0")/../.." && pwd)
WORK=${WORK:-$(mktemp -d -t wsi-slurm.XXXXXX)}
CASES=${CASES:-requeued node-down arrays demo}
say() { echo "== $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "slurmd starts jobs as other users: run as root"
for program in munged slurmctld slurmd; do
  command -v "$program" >/dev/null || fail "$program is missing: apt-get install slurm-wlm munge"
done
command -v snakemake >/dev/null || fail "snakemake is missing: activate the project's environment"

start_slurm() {
  mkdir -p "$WORK"/{munge,state,spool,log}
  chown -R munge: "$WORK/munge" && chmod 755 "$WORK" && chmod 700 "$WORK/munge"
  # Clients look for munge's socket at one place: another munged that runs is used as it is.
  if ! munge -n >/dev/null 2>&1; then
    dd if=/dev/urandom of="$WORK/munge/key" bs=1024 count=1 status=none
    chown munge: "$WORK/munge/key" && chmod 400 "$WORK/munge/key"
    mkdir -p /run/munge && chown munge: /run/munge
    runuser -u munge -- munged --key-file "$WORK/munge/key" \
      --log-file "$WORK/munge/log" --pid-file "$WORK/munge/pid" --seed-file "$WORK/munge/seed"
  fi
  # The executor takes SLURM_* out of its jobs' environment, so that only this place is found there.
  [ ! -e /etc/slurm/slurm.conf ] || fail "a Slurm is configured here: /etc/slurm/slurm.conf"
  mkdir -p /etc/slurm && ln -s "$WORK/slurm.conf" /etc/slurm/slurm.conf
  cat > "$WORK/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd.pid
SlurmctldLogFile=$WORK/log/slurmctld
SlurmdLogFile=$WORK/log/slurmd
ReturnToService=0
KillWait=30
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=${MEMORY:-$(slurmd -C | grep -o "RealMemory=[0-9]*" | cut -d= -f2)} State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld && slurmd
  for _ in $(seq 60); do
    sinfo -h -o %t 2>/dev/null | grep -q idle && return
    sleep 1
  done
  fail "the node does not come up: $(tail -n 3 "$WORK"/log/*)"
}

stop_slurm() {
  [ "$(readlink /etc/slurm/slurm.conf)" = "$WORK/slurm.conf" ] || return 0
  scancel --user root 2>/dev/null || true
  for daemon in slurmd slurmctld munge/; do
    file="$WORK/$daemon$([ "$daemon" = munge/ ] && echo pid || echo .pid)"
    [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
  done
  rm /etc/slurm/slurm.conf
}
trap stop_slurm EXIT

# snakemake through Slurm, in the work folder: run NAME ARGUMENT...
run() {
  name=$1 && shift
  (cd "$WORK" && snakemake --snakefile "$REPO/Snakefile" --workflow-profile "$REPO/tests/cluster/profile" \
    "$@" > "$WORK/$name.log" 2>&1) || { tail -n 40 "$WORK/$name.log"; fail "$name"; }
}

plugin() {
  python -c "import snakemake_executor_plugin_slurm" 2>/dev/null && return
  pip install --quiet --target "$WORK/plugin" --no-deps \
    snakemake-executor-plugin-slurm==2.8.0 snakemake-executor-plugin-slurm-jobstep==0.6.1
}

bags() { # a configuration of trainings that last for about a minute: bags NAME > FILE
  cat <<CONF
cohort: $1
bags: {path: $REPO/tests/data/demo_bags.h5, format: packed, sheet: $WORK/bags.tsv, name: demo}
tasks:
  stage:
    classes: [negative, itc, micro, macro]
    protocol: {folds: 2}
    objectives: {cross_entropy: {}, ncmi: {}}
    training: {epochs: ${EPOCHS:-600}, batch_size: 2}
    seeds: [${SEEDS:-0}]
evaluation: {bootstrap: 100}
CONF
}

# Waits until the training of a configuration has written to its log: begun NAME
begun() {
  for _ in $(seq 300); do
    grep -q "epoch [0-9]" "$WORK/results/$1/logs/train/stage/seed-0.log" 2>/dev/null && return
    sleep 1
  done
  fail "$1: no training begins"
}

# A training is disturbed by what the arguments do with its job, and ends nevertheless: disturbed NAME COMMAND...
disturbed() {
  name=$1 && shift
  bags "$name" > "$WORK/$name.yaml"
  run "$name" --configfile "$WORK/$name.yaml" -- "results/$name/runs/stage/seed-0.tsv" &
  whole=$!
  begun "$name"
  job=$(squeue -h -t RUNNING -o %i | head -n 1)
  [ -n "$job" ] || fail "$name: no job runs"
  say "$name: job $job is disturbed"
  "$@" "$job"
  sleep 10 # the log of the first attempt is kept: the second one writes another
  cp "$WORK/results/$name/logs/train/stage/seed-0.log" "$WORK/$name.first.log"
  wait "$whole" || fail "$name: the workflow did not end well"
  log="$WORK/results/$name/logs/train/stage/seed-0.log"
  grep -q "going on from" "$log" || { tail -n 5 "$WORK/$name.first.log"; cat "$log"; fail "$name: it began anew instead of going on"; }
  grep -c "ok" "$WORK/results/$name/runs/stage/seed-0.tsv" >/dev/null || fail "$name: no models"
  scontrol show job "$job" | grep -o "Restarts=[0-9]*"
}

requeue() { scontrol requeue "$1"; }

node_fails() {
  scontrol update NodeName="$(hostname -s)" State=DOWN Reason=test
  sleep 5
  scontrol update NodeName="$(hostname -s)" State=RESUME
}

plugin
export PYTHONPATH="$REPO:$WORK/plugin${PYTHONPATH:+:$PYTHONPATH}"
start_slurm
say "Slurm $(sinfo --version | cut -d' ' -f2) with $(sinfo -h -o %C) CPUs in $WORK"
wsi-ncmi bags sheet --packed "$REPO/tests/data/demo_bags.h5" --out "$WORK/bags.tsv" >/dev/null
wants() { [[ " $CASES " = *" $1 "* ]]; }
if wants requeued; then disturbed requeued requeue; fi
if wants node-down; then disturbed node-down node_fails; fi
if wants arrays; then
  EPOCHS=2 SEEDS=0,1,2 bags arrays > "$WORK/arrays.yaml"
  run arrays --slurm-array-jobs train --configfile "$WORK/arrays.yaml" -- \
    results/arrays/runs/stage/seed-{0,1,2}.tsv
  for seed in 0 1 2; do
    grep -q "ok" "$WORK/results/arrays/runs/stage/seed-$seed.tsv" || fail "arrays: no models of seed $seed"
  done
  grep -o "Submitted array job .* task IDs are 1-3" "$WORK/arrays.log" || fail "arrays: no array of three jobs"
fi
if wants demo; then
  run demo --configfile "$REPO/config/config.yaml"
  [ -s "$WORK/results/demo/report/index.html" ] || fail "the demo has no report"
  say "demo: $(grep -c 'Submitted\|submitted' "$WORK/demo.log") jobs through Slurm"
fi
say "all well"
