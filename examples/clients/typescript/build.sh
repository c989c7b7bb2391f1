#!/bin/sh
# Generates the client into gen/ from the files of `flumina proto export DIR` and compiles it: build.sh DIR
set -eu
protos=$(cd "$1" && pwd)
cd "$(dirname "$0")"
npm ci --no-fund --no-audit --silent
mkdir -p gen
cd "$protos"
# shellcheck disable=SC2046 # no name of ours has a space
PATH="$OLDPWD/node_modules/.bin:$PATH" ${PROTOC:-protoc} -I . --es_out="$OLDPWD/gen" \
    --es_opt=target=ts,import_extension=js $(find google flumina kubeflow -name '*.proto')
cd "$OLDPWD"
node_modules/.bin/tsc
