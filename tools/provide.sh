#!/usr/bin/env bash
# Provides etcd, kube-apiserver and kubectl for the tests that need a real Kubernetes API server.
#
#   tools/provide.sh            all three
#   tools/provide.sh etcd …     only those named
#
# For each program the first of these places that has it wins:
#   1. $KUBEBUILDER_ASSETS      the usual place for such binaries
#   2. target/tools             what an earlier run of this script built
#   3. kubectl alone: $PATH
#   4. a build with Go from the modules pinned in tools/kubernetes and tools/etcd, into target/tools
#      (about three minutes on two cores, once)
#
# Running it again costs nothing; several at once build once. Prints one line per program: its name
# and path. On failure it says what to install.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/target/tools

die() {
    printf 'tools/provide.sh: %s\n' "$*" >&2
    exit 1
}

# The module directory and package that a program is built from.
source_of() {
    case $1 in
    etcd) echo "etcd go.etcd.io/etcd/server/v3" ;;
    kube-apiserver) echo "kubernetes k8s.io/kubernetes/cmd/kube-apiserver" ;;
    kubectl) echo "kubernetes k8s.io/kubernetes/cmd/kubectl" ;;
    *) die "knows etcd, kube-apiserver and kubectl, not '$1'" ;;
    esac
}

# What a built program was built from: it is built anew when the pinned modules change.
stamp_of() {
    cat "$root/tools/$1/go.mod" "$root/tools/$1/go.sum" | cksum
}

is_current() { # program module
    [[ -x $tools/$1 && -f $tools/$1.stamp && $(<"$tools/$1.stamp") == "$(stamp_of "$2")" ]]
}

build() { # program module package
    command -v go >/dev/null || die "$1 is missing, and so is Go, which would build it. Install Go 1.24 or later, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl. The tests that need no API server run with 'make test-fast'."
    printf 'tools/provide.sh: building %s (once; minutes)\n' "$1" >&2
    # Kubernetes learns its own version from the linker; clients read it from /version.
    local version ldflags="-s -w"
    version=$(sed -n 's|^require k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$root/tools/kubernetes/go.mod")
    [[ -n $version ]] || die "tools/kubernetes/go.mod names no version of k8s.io/kubernetes"
    if [[ $2 == kubernetes ]]; then
        local minor=${version#v1.}
        local pkg=k8s.io/component-base/version
        ldflags+=" -X $pkg.gitVersion=$version -X $pkg.gitMajor=1 -X $pkg.gitMinor=${minor%%.*} -X $pkg.gitTreeState=clean"
    fi
    # To a name of its own first: a half-written program must never be found under the real one.
    (cd "$root/tools/$2" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off \
        go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$tools/.$1.$$" "$3") ||
        die "building $1 failed (above). It needs Go 1.24 or later and a Go module proxy; or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl."
    mv -f "$tools/.$1.$$" "$tools/$1"
    stamp_of "$2" >"$tools/$1.stamp"
}

provide() { # program
    local module package
    read -r module package <<<"$(source_of "$1")"
    if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]]; then
        printf '%s %s\n' "$1" "$KUBEBUILDER_ASSETS/$1"
        return
    fi
    if ! is_current "$1" "$module"; then
        if [[ $1 == kubectl ]] && command -v kubectl >/dev/null; then
            printf '%s %s\n' "$1" "$(command -v kubectl)"
            return
        fi
        mkdir -p "$tools"
        (
            # Where there is no flock two builds at once only cost time: the last rename wins.
            if command -v flock >/dev/null; then flock 9; fi
            is_current "$1" "$module" || build "$1" "$module" "$package"
        ) 9>"$tools/.lock"
    fi
    printf '%s %s\n' "$1" "$tools/$1"
}

[[ $# -gt 0 ]] || set -- etcd kube-apiserver kubectl
for program in "$@"; do
    source_of "$program" >/dev/null
done
for program in "$@"; do
    provide "$program"
done
