#!/usr/bin/env bash
# Builds the sdist and from it the wheel, installs the wheel alone and uses it outside the checkout.
# Usage: bash scripts/check_wheel.sh      (in an environment that has the requirements and `build`)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout="$PWD"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

python -m build --outdir "$scratch/dist" . > "$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }

# The new environment takes the requirements from the present one, but no editable keras_sam: Python
# reads the .pth files of the new environment's own folder alone.
python -m venv --without-pip "$scratch/venv"
new="$scratch/venv/bin/python"
site="$("$new" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$site/requirements.pth"
python -m pip install --no-deps --target "$site" "$scratch"/dist/*.whl

mkdir "$scratch/empty"
cd "$scratch/empty"
env -u PYTHONPATH -u KERAS_SAM_MODELS "$new" "$checkout/scripts/check_wheel.py" "$checkout"
