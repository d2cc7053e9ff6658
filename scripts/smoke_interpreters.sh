#!/usr/bin/env bash
# The recipe `smoke`, through Flower and in-process, on each further Python that is here; nothing to do where none is.
#   bash scripts/smoke_interpreters.sh [3.12 3.13 ...]
# Each gets a virtual environment of its own, which is gone afterwards: some minutes and, with torch's CUDA build, 6 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
torch=${TORCH:-torch==2.13.0}
if [ $# -eq 0 ]; then set -- 3.12 3.13; fi

# The interpreter of a version: on PATH, or where pyenv keeps its own. A name on PATH may be a shim that runs nothing.
interpreter() {
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$candidate" -c "import sys, venv; sys.exit(sys.version_info[:2] != tuple(map(int, '$1'.split('.'))))" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/symphony-smoke.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
for version in "$@"; do
  python=$(interpreter "$version")
  if [ -z "$python" ]; then
    echo "Python $version: not here"
    continue
  fi
  echo "Python $version: $python"
  venv=$scratch/venv
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --no-compile "$torch"
  "$venv/bin/python" -m pip install --quiet --no-compile --editable "$root"
  for runtime in "" --in-process; do
    env -u PYTHONPATH PATH="$venv/bin:$PATH" SYMPHONY_HOME="$scratch/home-$version" OMP_NUM_THREADS=1 \
      "$venv/bin/symphony" run smoke $runtime
  done
done
