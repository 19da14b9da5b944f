#!/usr/bin/env bash
# The MLflow server of a cluster, on the loopback of this machine:   mlflow.sh FOLDER [PORT]
# FOLDER keeps its artefacts, its log and, unless MLFLOW_BACKEND_STORE_URI names another, its database,
# SQLite. Where many searches write at once, PostgreSQL (pip install 'lartpc-ray[postgres]'):
#   sudo apt-get install postgresql; sudo -u postgres createuser --pwprompt lartpc
#   sudo -u postgres createdb --owner lartpc mlflow
#   export MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://lartpc:PASSWORD@127.0.0.1/mlflow
# In the environment (~/.lartpc, readable by you alone), for `ps` shows arguments to everyone.
# To end it: kill $(cat FOLDER/mlflow.pid)
set -euo pipefail
folder=$(realpath -m "$1"); port=${2:-5000}
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-sqlite:///$folder/mlflow.db}
mkdir -p "$folder/mlartifacts"
answers() { (echo >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
if answers; then echo "port $port is taken: MLflow runs already"; exit 0; fi
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
nohup setsid mlflow server --host 127.0.0.1 --port "$port" --workers 2 \
  --artifacts-destination "$folder/mlartifacts" >>"$folder/mlflow.log" 2>&1 </dev/null &
echo $! >"$folder/mlflow.pid"
for _ in $(seq 1 600); do
  if answers; then echo "MLflow: http://127.0.0.1:$port"; exit 0; fi
  sleep 0.5
done
echo "MLflow does not answer; see $folder/mlflow.log" >&2
exit 1
