#!/bin/sh
# Our own CRIU: the newest release that was measured, linked statically so that it also starts inside a sandbox whose
# file system lacks its libraries. Debian 12 ships 3.17.1, which fails its own check on kernel 6.18.
#
#   packaging/criu/build.sh                    fetch the release, check it, build, install
#   packaging/criu/build.sh criu-4.2.tar.gz    the same from a tarball that is here already
#
# Installs sbin/criu below $PREFIX (default: `criu` in Shoal's data folder). Nothing else of the system is touched.
# Needs (Debian): gcc make pkg-config libprotobuf-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libcap-dev
#                 libnl-3-dev libnet1-dev uuid-dev python3
set -eu

VERSION=4.2
ADDRESS="https://github.com/checkpoint-restore/criu/archive/refs/tags/v$VERSION.tar.gz"
# SHA-256 of the uncompressed tar: the tree of the tag is fixed, how GitHub compresses it is not.
TAR_SHA256=8ed11a1c4a7e773e163c8e6e9bbf073f31307e3361f0a4a7a8f752d096dbb7e5
DATA="${SHOAL_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/shoal}"
PREFIX="${PREFIX:-$DATA/criu}"
JOBS="${JOBS:-$(nproc)}"

say() { printf '%s\n' "$*" >&2; }

missing=""
for program in gcc make pkg-config protoc protoc-c tar gzip sha256sum; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
for header in google/protobuf/descriptor.proto libnet.h uuid/uuid.h sys/capability.h protobuf-c/protobuf-c.h; do
    [ -e "/usr/include/$header" ] || missing="$missing $header"
done
if [ -n "$missing" ]; then
    say "missing:$missing"
    say "Debian: apt install gcc make pkg-config libprotobuf-dev libprotobuf-c-dev protobuf-c-compiler \\"
    say "        protobuf-compiler libcap-dev libnl-3-dev libnet1-dev uuid-dev python3"
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

if [ $# -gt 0 ]; then
    tarball=$1
else
    tarball="$work/criu.tar.gz"
    if ! curl --fail --location --silent --show-error --max-time 300 --output "$tarball" "$ADDRESS"; then
        say "cannot fetch $ADDRESS; give a tarball of the release as the first argument"
        exit 1
    fi
fi
case "$tarball" in
    *.tar) cp "$tarball" "$work/criu.tar" ;;
    *) gzip -dc "$tarball" >"$work/criu.tar" ;;
esac
echo "$TAR_SHA256  $work/criu.tar" | sha256sum --check --quiet - || {
    say "this is not the source of CRIU $VERSION"
    exit 1
}
tar -xf "$work/criu.tar" -C "$work"
cd "$work/criu-$VERSION"

say "building CRIU $VERSION"
# V=1 shows the last link command. It is then run once more with -static: the position-independent blobs that CRIU puts
# into a job cannot be built with that flag, the program itself can.
make -j"$JOBS" V=1 WERROR=0 NO_GNUTLS=1 CONFIG_AMDGPU=n criu/criu >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
link=$(grep -e ' -o criu/criu$' "$work/log" | tail -n 1 | sed 's/ -rdynamic / -static /')
[ -n "$link" ] || { say "the link command was not found"; exit 1; }
sh -c "$link" >"$work/link" 2>&1 || { tail -n 20 "$work/link" >&2; exit 1; }

mkdir -p "$PREFIX/sbin"
install -m 755 criu/criu "$PREFIX/sbin/criu.part"
mv "$PREFIX/sbin/criu.part" "$PREFIX/sbin/criu"
say "installed $("$PREFIX/sbin/criu" --version | head -n 1 | tr '\n' ' ')at $PREFIX/sbin/criu"
