#!/bin/sh
# Generates the client into gen/ from the files of `flumina proto export DIR`: build.sh DIR
set -eu
protos=$(cd "$1" && pwd)
cd "$(dirname "$0")"
mkdir -p gen
cd "$protos"
find . -name '*.proto' | sed 's,^\./,,' | xargs "${PYTHON:-python3}" -m grpc_tools.protoc -I . \
    --python_out="$OLDPWD/gen" --grpc_python_out="$OLDPWD/gen"
