#!/usr/bin/env bash
# Trains over several hosts under Slurm: DATA=/shared/pictures sbatch --nodes=4 cluster/slurm.sh
# RUN and the data must lie on a disk that all hosts see.
#SBATCH --job-name=mixer
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --requeue
set -euo pipefail
export DATA=${DATA:?is not set; give the pictures to train on, DATA=/shared/pictures}
export RUN=${RUN:-runs/b16} PORT=${PORT:-2222} MIXER_TF_WAIT=${MIXER_TF_WAIT:-300}
# srun does not take this from the job any more (Slurm 22.05).
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-32}
export HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -sd,)

# What each host runs. Slurm numbers the tasks as it lists the hosts; that number is the worker's.
worker='
    addresses=$(printf "\"%s:$PORT\"," ${HOSTS//,/ })
    export TF_CONFIG="{\"cluster\": {\"worker\": [${addresses%,}]},
                       \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    resume=$([ -e "$RUN/config.json" ] && echo --resume || true)
    exec python -m mixer_tf train --model mixer_b16 --data "$DATA" --out "$RUN" \
        --per-device 64 --save-every 500 $resume
'
# A worker that dies ends the others (exit code 75); all start again where the last state was saved.
for try in 1 2 3 4 5; do
    srun --kill-on-bad-exit=1 bash -c "$worker" && exit 0 || code=$?
    [ "$code" = 2 ] && exit 2  # a mistake, which the next attempt would make again
    echo "attempt $try ended with $code; all workers start again" >&2
    sleep 10
done
exit 1
