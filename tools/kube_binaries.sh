#!/usr/bin/env bash
# Make the binaries of a Kubernetes control plane that tests run against, from Debian's source packages.
#
#   tools/kube_binaries.sh            prints the folder of etcd, kube-apiserver, kube-controller-manager, kube-scheduler
#
# For KUBEBUILDER_ASSETS, as in: export KUBEBUILDER_ASSETS=$(tools/kube_binaries.sh). Needs Debian or Ubuntu on
# amd64 with apt, about 3 GB of disk while it builds, and five minutes on two cores; what was built before is kept
# and printed at once. Nothing is installed on the system. Settings:
#   COMPUTILITY_KUBE_CACHE  the folder above the binaries (default: ~/.cache/computility)
set -euo pipefail

readonly version=1.20.2
readonly cache=${COMPUTILITY_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/computility}
# The last number counts what this script does otherwise than before.
readonly out=$cache/kubernetes-$version-2
readonly parts=(kube-apiserver kube-controller-manager kube-scheduler)

say() { printf '[kubernetes %4ds] %s\n' "$SECONDS" "$*" >&2; }

die() {
    printf 'kube_binaries: %s\n' "$@" >&2
    exit 1
}

# The options by which apt reads one release alone, with lists of its own: $1 is the release.
apt_options() {
    local folder=$work/$1 mirror
    mirror=$(grep -hoE '(https?|file)://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1 | tr -d ' ')
    [[ -n $mirror ]] || die "no Debian mirror stands in /etc/apt/sources.list or /etc/apt/sources.list.d"
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    local line="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main"
    printf 'deb %s\ndeb-src %s\n' "$line" "$line" >"$folder/sources.list"
    echo "-o Dir::Etc::sourcelist=$folder/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::Lists=$folder/lists" \
        "-o Dir::Cache=$folder/cache -o APT::Sandbox::User=root"
}

download() {
    local older newer
    older=$(apt_options bookworm)
    newer=$(apt_options trixie)
    mkdir -p "$work/packages"
    cd "$work/packages"
    # shellcheck disable=SC2086  # options are words
    {
        apt-get $older update -q
        apt-get $newer update -q
        apt-get $newer download -q etcd-server
        apt-get $older download -q golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev
        apt-get $older source -q --download-only kubernetes
    } >"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; die "apt could not download the source packages"; }
    for package in *.deb; do dpkg -x "$package" "$work/root"; done
}

unpack() {
    local source=$work/go/src/k8s.io/kubernetes
    mkdir -p "$source"
    tar -xzf "$work"/packages/kubernetes_*.orig.tar.gz -C "$source" --strip-components=1
    tar -xJf "$work"/packages/kubernetes_*.debian.tar.xz -C "$source"
    cd "$source"
    while read -r name _; do
        [[ -z $name || $name == \#* ]] || patch -s -p1 <"debian/patches/$name"
    done <debian/patches/series
    # The vendored version panics at the first CRD when built by Go 1.18 or later.
    rm -rf vendor/github.com/modern-go/reflect2
    cp -rL "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
    # Built by Go 1.18 or later it takes every empty text of a custom resource for null, and refuses it.
    sed -i 's/if data == nil || reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data)) {/if data == nil {/' \
        vendor/github.com/go-openapi/validate/type.go
    sed -i "s/\"v0.0.0-master+[0-9a-f]*\"/\"v$version\"/" staging/src/k8s.io/{component-base/version,client-go/pkg/version}/base.go
}

# The server's OpenAPI definitions, which the source package lacks.
generate_openapi() {
    local packages
    packages=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg staging/src/k8s.io |
        grep -vE '/sample-|/code-generator/|_test.go|/testdata/' | xargs -n 1 dirname | sort -u |
        sed 's#^staging/src/#k8s.io/kubernetes/vendor/#;s#^pkg/#k8s.io/kubernetes/pkg/#' | paste -sd,)
    go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
    "$work/openapi-gen" -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
        -h hack/boilerplate/boilerplate.generatego.txt -r /dev/null
}

build() {
    local settings=k8s.io/kubernetes/vendor/k8s.io/component-base/version part
    local flags="-s -w -X $settings.gitVersion=v$version -X $settings.gitMajor=1 -X $settings.gitMinor=20"
    cd "$work/go/src/k8s.io/kubernetes"
    export GOPATH=$work/go GOROOT=$work/root/usr/lib/go-1.19 GOCACHE=$work/go-cache GO111MODULE=off GOFLAGS='' CGO_ENABLED=0
    export PATH=$GOROOT/bin:$PATH
    generate_openapi
    for part in "${parts[@]}"; do
        say "building $part"
        go build -trimpath -ldflags "$flags" -o "$work/out/$part" "k8s.io/kubernetes/cmd/$part"
    done
}

complete() { [[ -x $out/etcd && -x $out/kube-apiserver && -x $out/kube-controller-manager && -x $out/kube-scheduler ]]; }

mkdir -p "$cache"
exec 9>"$cache/kubernetes.lock"
flock 9
if ! complete; then
    [[ $(uname -m) == x86_64 ]] && command -v apt-get dpkg tar patch >/dev/null ||
        die "this needs Debian or Ubuntu on amd64; elsewhere set KUBEBUILDER_ASSETS to a folder with ${parts[*]} and etcd"
    work=$(mktemp -d "$cache/build.XXXXXXXX")
    readonly work
    trap 'rm -rf "$work"' EXIT
    say "downloading source packages"
    download
    say "unpacking"
    unpack
    say "generating the server's OpenAPI definitions"
    build >&2
    cp "$work/root/usr/bin/etcd" "$work/out/etcd"
    rm -rf "$out"
    mv "$work/out" "$out"
    say "done"
fi
printf '%s\n' "$out"
