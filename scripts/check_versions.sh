#!/usr/bin/env bash
# The fast tests with other versions, in a fresh environment:
#
#     bash scripts/check_versions.sh "tensorflow~=2.21.0" "keras==3.12.0"
#     PYTHON=python3.13 bash scripts/check_versions.sh "tensorflow~=2.21.0" scann-core
#
# What the package asks for is installed as the arguments have it; ScaNN only if it is
# among them, for scann itself is made for one version of TensorFlow.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"${PYTHON:-python3}" -m venv "$environment"
requirements=$("$environment/bin/python" - <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
wanted = project["dependencies"] + [
    each for name in ("viz", "serve", "test") for each in extras[name]
]
print("\n".join(w for w in wanted if not w.startswith(("scann", "tensorflow~", "tensorflow>"))))
PYTHON
)
printf '%s\n' "$requirements" "$@" > "$environment/requirements.txt"
"$environment/bin/pip" install --quiet --requirement "$environment/requirements.txt"
"$environment/bin/pip" install --quiet --no-deps --editable .
"$environment/bin/python" -c "
import platform, keras, tensorflow
print('Python', platform.python_version(), 'TensorFlow', tensorflow.__version__,
      'Keras', keras.__version__)"
CUDA_VISIBLE_DEVICES='' TF_CPP_MIN_LOG_LEVEL=3 "$environment/bin/python" -m pytest \
    -q -m fast --numprocesses=0
