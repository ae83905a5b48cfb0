#!/bin/sh
# Checks that both packages build with the oldest versions of dependencies that their manifests allow.
#
#   scripts/minimal-versions.sh [TOOLCHAIN]
#
# It takes the packages as they would be published, without what only tests need. TOOLCHAIN checks them,
# 1.88.0 for example; without it the default one does. Needs cargo 1.90 or newer as the default.
# RUSTC_BOOTSTRAP allows stable cargo the flag -Z; no code is compiled with it.
set -eu

cd "$(dirname "$0")/.."
toolchain=${1:+"+$1"}
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/minimal-versions
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

cargo package --quiet --no-verify --allow-dirty --package unstale-derive --package unstale
# `build` stays, so that a second run compiles only what has changed.
mkdir -p "$work"
rm -rf "$work/Cargo.toml" "$work/Cargo.lock" "$work/unstale" "$work/unstale-derive"
for package in unstale unstale-derive; do
    # With the times of now: cargo compiles again what has changed.
    tar -xzmf "$target/package/$package-$version.crate" -C "$work"
    mv "$work/$package-$version" "$work/$package"
    rm "$work/$package/Cargo.lock"
    # What tests need must not raise the versions that are chosen; profiles count in the root alone.
    manifest=$work/$package/Cargo.toml
    sed -e '/^\[dev-dependencies/,/^$/d' -e '/^\[profile/,/^$/d' "$manifest" >"$manifest.new"
    mv "$manifest.new" "$manifest"
done
cat >"$work/Cargo.toml" <<'END'
[workspace]
members = ["unstale", "unstale-derive"]
resolver = "3"

[patch.crates-io]
unstale-derive = { path = "unstale-derive" }
END

cd "$work"
RUSTC_BOOTSTRAP=1 cargo update --quiet -Z direct-minimal-versions
# shellcheck disable=SC2086 # no word where there is no toolchain
CARGO_TARGET_DIR=$work/build cargo $toolchain check --workspace --all-features --lib --bins --locked --keep-going
