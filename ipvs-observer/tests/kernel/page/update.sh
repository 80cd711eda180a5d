#!/bin/bash
# Rewrites what docs/scheduler-debugging.md shows with what its commands print now, on each kernel that it names. Lines
# and parts of lines that the page leaves out (…) stay left out; read the difference before it is committed.
set -eu
cd "$(dirname "$0")/../../../.."
page=docs/scheduler-debugging.md
cargo xtask build
tests=$(cargo test --no-run --quiet --release -p ipvs-observer --test kernel --features lab-tests \
    --message-format=json | sed -n 's/.*"name":"kernel".*"executable":"\([^"]*\)".*/\1/p')
new=$(mktemp)
for kernel in 6.12 $(sed -n 's/^<!-- page: .*, on \(.*\) -->$/\1/p' "$page" | sort -u); do
    cargo xtask lab --kernel "$kernel" --topology empty --no-build --add "$tests:/usr/local/bin/kernel-tests" \
        --add "$page:/root/scheduler-debugging.md" -- \
        env UPDATE_PAGE=yes PAGE_ONLY="${1:-}" kernel-tests --test-threads=1 --nocapture the_page_on_debugging |
        sed -n '/^<<<page$/,/^page>>>$/{//!p}' >"$new"
    [ -s "$new" ]
    cat "$new" >"$page"
done
rm "$new"
git diff --stat "$page"
