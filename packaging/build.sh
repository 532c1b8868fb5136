#!/usr/bin/env bash
# The wheel and the single node program with its systemd unit, under dist/. Called by `make dist`, which prepares .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
name="shoal-$version-linux-$(uname -m)"

step() { # step TITLE COMMAND...: runs it quietly, says every 10 s that it goes on, and shows the output if it fails
    local title=$1 log started=$SECONDS
    shift
    log=$(mktemp)
    echo "dist: $title"
    "$@" >"$log" 2>&1 &
    local child=$!
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        if (((SECONDS - started) % 10 == 9)); then echo "dist: $title, $((SECONDS - started)) s"; fi
    done
    wait "$child" || { tail -60 "$log" >&2; echo "dist: $title failed" >&2; exit 1; }
    rm -f "$log"
}

rm -rf build "dist/$name" "dist/$name.tar.gz" dist/shoal-*.whl dist/shoal
mkdir -p dist
step "the wheel" .venv/bin/python -m hatchling build -t wheel -d dist
step "the program, about a minute" .venv/bin/python -m PyInstaller --noconfirm --log-level WARN \
    --distpath "dist/$name" --workpath build packaging/shoal.spec
cp packaging/shoal.service LICENSE "dist/$name/"
step "the archive" tar -C dist -czf "dist/$name.tar.gz" "$name"
(cd dist && sha256sum "$name.tar.gz" shoal-*.whl >SHA256SUMS)
echo "dist: dist/$name.tar.gz, $(ls dist/shoal-*.whl), dist/SHA256SUMS"
echo "dist: try dist/$name/shoal/shoal node doctor --json"
