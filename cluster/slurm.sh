#!/usr/bin/env bash
#SBATCH --job-name=lartpc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# A search under SLURM, from the folder of the project, which all nodes see:
#   sbatch cluster/slurm.sh clustering --budget cluster
# Two minutes before the time limit SLURM sends SIGUSR1: the search writes its checkpoints, the job queues
# itself again and continues the same study. SLURM queues it again after the loss of a node, too.
set -euo pipefail
told=; search=; trap 'told=1; [ -z "$search" ] || kill -USR1 "$search"' USR1 TERM
source .venv/bin/activate
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive MLFLOW_DISABLE_TELEMETRY=true
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
[ -f "$RAY_AUTH_TOKEN_PATH" ] || ray get-auth-token --generate >/dev/null
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))
node() { # HOSTS COUNT ARGUMENTS...: keep a Ray node running on each
  local hosts=$1 count=$2; shift 2
  srun --overlap --nodes="$count" --ntasks="$count" --cpus-per-task="$SLURM_CPUS_PER_TASK" -w "$hosts" \
    ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@" &
  started+=($!)
}
started=()
node "$head" 1 --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1
export RAY_ADDRESS="$address:$port"
up() { ray status 2>/dev/null | grep -c '^ 1 node_' || true; } # nodes that Ray knows
wait_for() { # COUNT: how many trials fit is decided when the search begins
  for _ in $(seq 1 90); do
    [ -z "$told" ] && [ "$(up)" -lt "$1" ] || return 0
    for one in "${started[@]}"; do
      kill -0 "$one" 2>/dev/null || { echo "Ray did not start on a node (see above)" >&2; return 1; }
    done
    sleep 2
  done
  echo "Ray at $RAY_ADDRESS has $(up) of $1 nodes after three minutes" >&2; return 1
}
wait_for 1
others=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n +2 | paste -sd,)
[ -z "$others" ] || node "$others" $((SLURM_JOB_NUM_NODES - 1)) --address="$RAY_ADDRESS"
wait_for "$SLURM_JOB_NUM_NODES"
study=runs/slurm-$SLURM_JOB_ID.study
status=1
if [ -z "$told" ]; then
  bash cluster/search.sh "$study" "$@" &
  search=$!
  while kill -0 $search 2>/dev/null; do wait $search && status=0 || status=$?; done
  [ -s "$study" ] || told= # it did not begin: a wrong option, say
fi
if [ "$told" ] && [ "$status" -ne 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
