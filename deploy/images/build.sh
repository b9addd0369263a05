#!/usr/bin/env bash
# Build the images of Computility with docker, podman or buildah, whichever is there.
#
#   deploy/images/build.sh [cpu|cuda|rocm|ascend …]     (cpu where none is named)
#
# Settings:
#   REGISTRY     put before the names (default: none)
#   TAG          of the images (default: the version in pyproject.toml)
#   BASE_CPU, BASE_CUDA, BASE_ROCM, BASE_ASCEND   the images they are built on; those of rocm and ascend have to be named
#   BUILDER      docker, podman or buildah
#   PUSH=yes     push them afterwards
set -euo pipefail
cd "$(dirname "$0")/../.."

die() {
    printf 'images: %s\n' "$@" >&2
    exit 1
}

find_builder() {
    local candidate
    for candidate in ${BUILDER:-docker podman buildah}; do
        if command -v "$candidate" >/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "neither docker nor podman nor buildah is on PATH${BUILDER:+ (BUILDER=$BUILDER)}; install one of them"
}

version() { sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml; }

# The name of an image; that of cpu is the product's.
image_of() {
    local suffix=-$1
    [[ $1 == cpu ]] && suffix=
    printf '%s\n' "${REGISTRY:+${REGISTRY%/}/}computility/computility$suffix:${TAG:-$(version)}"
}

build() {
    local kind=$1 base_variable="BASE_${1^^}" image options=()
    [[ -f deploy/images/$kind.Dockerfile ]] || die "there is no image $kind; there are cpu, cuda, rocm and ascend"
    if [[ -n ${!base_variable:-} ]]; then
        options=(--build-arg "BASE=${!base_variable}")
    elif [[ $kind == rocm || $kind == ascend ]]; then
        die "$base_variable is not set: name the vendor's vLLM image (with Python 3.11) that $kind is built on"
    fi
    image=$(image_of "$kind")
    printf 'images: %s with %s\n' "$image" "$builder"
    "$builder" build "${options[@]}" --file "deploy/images/$kind.Dockerfile" --tag "$image" .
    if [[ ${PUSH:-} == yes ]]; then "$builder" push "$image"; fi
}

builder=$(find_builder)
[[ $# -gt 0 ]] || set -- cpu
for kind in "$@"; do build "$kind"; done
