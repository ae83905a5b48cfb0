#!/bin/sh
# Builds deploy/Dockerfile without a container engine (buildah, chroot isolation), and runs what came out.
#
#   make image
#
# Where the registries of the two base images are not reachable it makes stand-ins for them, of Debian's
# packages and the Rust that is installed here: the build is the same, the bases are not. Says
# "skipped" and why where buildah is not to be had. Needs root. Its images stay for the next build:
# `STORAGE_DRIVER=vfs buildah rmi NAME` removes them, `buildah images` lists them.
set -eu
cd "$(dirname "$0")/.."

skip() {
    echo "image: skipped: $1"
    exit 0
}

[ "$(uname -s)" = Linux ] || skip 'buildah needs Linux'
[ "$(id -u)" = 0 ] || skip 'buildah with chroot isolation needs root'
scripts/install.sh buildah || skip 'buildah is missing and cannot be installed'

work=$(mktemp -d)
export STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}" BUILDAH_ISOLATION=chroot
containers=
# shellcheck disable=SC2317 # called by trap
clean() {
    for container in $containers; do buildah rm "$container" >/dev/null; done
    rm -rf "$work"
}
trap clean EXIT

image=unstale-accounts
rust=$(sed -n 's/^FROM \([^ ]*\) AS build$/\1/p' deploy/Dockerfile)
plain=$(sed -n 's/^FROM \([^ ]*\)$/\1/p' deploy/Dockerfile)

# A container of nothing, to be filled; its name is in $container, its root in $root.
empty() {
    container=$(buildah from scratch)
    containers="$containers $container"
    root=$(buildah mount "$container")
}

# Debian with a linker, and the Rust of this machine.
make_rust() {
    scripts/install.sh debootstrap || skip 'debootstrap is missing and cannot be installed'
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates,make bookworm "$work/debian" "$mirror" >"$work/log" ||
        { tail -n 5 "$work/log" && exit 1; }
    empty
    cp -a "$work/debian/." "$root/"
    sysroot=$(rustc --print sysroot)
    cp -a "$sysroot/bin" "$sysroot/lib" "$root/usr/local/"
    [ ! -d "$sysroot/libexec" ] || cp -a "$sysroot/libexec" "$root/usr/local/"
    cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
    buildah config --env CARGO_HOME=/usr/local/cargo --env CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt "$container"
    buildah commit --quiet "$container" "$rust" >/dev/null
}

# The C library, and a user without rights; neither a shell nor a package manager.
make_plain() {
    empty
    mkdir -p "$root/etc" "$root/lib" "$root/tmp"
    cp -aL "$work/debian/usr/lib/x86_64-linux-gnu" "$root/lib/"
    cp -aL "$work/debian/lib64" "$root/"
    echo 'nonroot:x:65532:65532::/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
    echo 'nonroot:x:65532:' >"$root/etc/group"
    buildah config --user 65532 "$container"
    buildah commit --quiet "$container" "$plain" >/dev/null
}

bases='the real bases'
if buildah inspect --type image "$rust" >/dev/null 2>&1 && buildah inspect --type image "$plain" >/dev/null 2>&1; then
    bases='the bases of an earlier build'
elif ! { buildah pull --quiet "$rust" && buildah pull --quiet "$plain"; } >/dev/null 2>&1; then
    echo "image: $rust and $plain cannot be pulled: stand-ins take their places"
    bases='stand-ins for its bases'
    make_rust
    make_plain
fi

buildah bud --pull-never --ignorefile deploy/Dockerfile.dockerignore -f deploy/Dockerfile -t "$image" .

container=$(buildah from --pull-never "$image")
containers="$containers $container"
root=$(buildah mount "$container")
bytes=$(cat "$root/usr/local/bin/accounts" "$root/usr/local/bin/unstale" | wc -c)
buildah run "$container" -- /usr/local/bin/accounts --help >"$work/help"
buildah run "$container" -- /usr/local/bin/unstale --version
buildah run "$container" -- /usr/local/bin/unstale relay --help >"$work/relay"
buildah run "$container" -- /usr/local/bin/unstale demo --seconds 3 >"$work/demo"
tail -n 3 "$work/demo"
# They take 32 MB; with line tables they would take 157 MB.
[ "$bytes" -lt 40000000 ] || { echo "image: its two programs take $bytes bytes: are they stripped?" >&2 && exit 1; }
echo "image: built on $bases; its two programs take $((bytes / 1000000)) MB and run as $(buildah inspect --format '{{.OCIv1.Config.User}}' "$container")"
