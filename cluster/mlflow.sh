#!/usr/bin/env bash
# The MLflow server of a cluster, on the loopback of this machine:   mlflow.sh FOLDER [STORE] [PORT]
# FOLDER keeps its artefacts and log; STORE is its database, SQLite in FOLDER unless given. For many
# writers: postgresql+psycopg://USER:PASSWORD@127.0.0.1/mlflow (pip install 'psycopg[binary]').
set -euo pipefail
folder=$(realpath -m "$1"); store=${2:-sqlite:///$folder/mlflow.db}; port=${3:-5000}
mkdir -p "$folder/mlartifacts"
answers() { (echo >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
if answers; then echo "port $port is taken: MLflow runs already"; exit 0; fi
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
nohup setsid mlflow server --host 127.0.0.1 --port "$port" --workers 2 --backend-store-uri "$store" \
  --artifacts-destination "$folder/mlartifacts" >>"$folder/mlflow.log" 2>&1 </dev/null &
for _ in $(seq 1 600); do
  if answers; then echo "MLflow: http://127.0.0.1:$port"; exit 0; fi
  sleep 0.5
done
echo "MLflow does not answer; see $folder/mlflow.log" >&2
exit 1
