#!/usr/bin/env bash
# `tune` for a scheduler that repeats its command:   search.sh FILE ARGUMENTS...
# FILE keeps the name of the study: the first call begins it, each later call continues it. ARGUMENTS are those of
# `tune`, the same in each call.
set -euo pipefail
file=$1; shift
mkdir -p "$(dirname "$file")"
again=(); [ ! -s "$file" ] || again=(--resume "$(cat "$file")")
keep_name() { while read -r line; do [[ ! $line =~ ^study\ ([^:]+): ]] || echo "${BASH_REMATCH[1]}" >"$file"; done; }
exec python -m lartpc_ray.tune "$@" "${again[@]}" 2> >(tee >(keep_name) >&2)
