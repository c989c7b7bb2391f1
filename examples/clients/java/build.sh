#!/bin/sh
# Generates the client from the files of `flumina proto export DIR` and packs it as target/follow.jar: build.sh DIR
set -eu
protos=$(cd "$1" && pwd)
cd "$(dirname "$0")"
mvn --batch-mode --quiet -Dprotos="$protos" package
