#!/usr/bin/env bash
# Renews the locks of the generated project and of the template. Everything is resolved together once; each lock is
# then the part of that solution that its group needs. `--keep` leaves every version that is locked now and still fits.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH
locks=$PWD/'{{cookiecutter.project}}/requirements'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # OUTPUT ARGUMENTS...
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
    --custom-compile-command "make lock" "${@:2}" --output-file "$1"
}

# Bakes with the answers that decide what is declared, for their pyproject.toml.
bake() { # NAME ANSWERS...
  cookiecutter . --no-input --output-dir "$work/$1" "${@:2}" >/dev/null
  ln -s "$work/$1"/*/pyproject.toml "$work/$1/pyproject.toml"
}
bake images
bake tables task=tabular-classification
bake production scope=production
bake kubernetes scope=production deploy=kubernetes
bake production-tables scope=production task=tabular-classification
groups=(--group pyproject.toml:template --group "$work/tables/pyproject.toml:tables"
  --group "$work/production/pyproject.toml:monitoring" --group "$work/kubernetes/pyproject.toml:cluster")
for group in train gpu images serve release dev; do groups+=(--group "$work/images/pyproject.toml:$group"); done
groups+=(--group "$work/production/pyproject.toml:serve")
for remote in s3 gcs azure ssh; do
  bake $remote dvc_remote=$remote
  groups+=(--group "$work/$remote/pyproject.toml:remote")
done
if [[ ${1-} == --keep ]]; then # uv prefers the versions that it finds in its output file
  awk '/^[a-z0-9]/ {new = !seen[$1]++} new' "$locks"/*.lock requirements/template.lock >"$work/all.lock"
fi
compile "$work/all.lock" "${groups[@]}"

together=(--constraint "$work/all.lock")
for group in train gpu release dev; do
  compile "$locks/$group.lock" "${together[@]}" --group "$work/images/pyproject.toml:$group"
done
compile "$locks/monitoring.lock" "${together[@]}" --group "$work/production/pyproject.toml:monitoring"
compile "$locks/cluster.lock" "${together[@]}" --group "$work/kubernetes/pyproject.toml:cluster"
ln -s production "$work/production-images"
for kind in images tables; do
  compile "$locks/$kind.lock" "${together[@]}" --group "$work/$kind/pyproject.toml:$kind"
  compile "$locks/serve-production-$kind.lock" "${together[@]}" --group "$work/production-$kind/pyproject.toml:serve"
  compile "$locks/serve-$kind.lock" "${together[@]}" --group "$work/$kind/pyproject.toml:serve"
done
for remote in s3 gcs azure ssh; do
  compile "$locks/remote-$remote.lock" "${together[@]}" --group "$work/$remote/pyproject.toml:remote"
done
compile requirements/template.lock "${together[@]}" --group pyproject.toml:template
# Not together: it would hold the others back.
upgrade=(--upgrade)
if [[ ${1-} == --keep ]]; then upgrade=(); fi
compile requirements/checkov.lock "${upgrade[@]}" --group pyproject.toml:checkov
