#!/bin/sh
# Generates the client into gen/ from the files of `flumina proto export DIR` and builds it: build.sh DIR
set -eu
protos=$(cd "$1" && pwd)
cd "$(dirname "$0")"
module=$(go list -m)
mkdir -p gen bin
GOBIN="$PWD/bin" go install tool
cd "$protos"
files=$(find flumina kubeflow -name '*.proto')
# The contracts name no package of Go; each folder becomes one below gen/. Google's exist already.
google=google.golang.org/genproto/googleapis
packages="google/rpc/status.proto=$google/rpc/status
google/api/annotations.proto=$google/api/annotations
google/api/http.proto=$google/api/annotations"
for file in $files; do
    packages="$packages $file=$module/gen/$(dirname "$file")"
done
set --
for package in $packages; do
    set -- "$@" "--go_opt=M$package" "--go-grpc_opt=M$package"
done
PATH="$OLDPWD/bin:$PATH" ${PROTOC:-protoc} -I . --go_out="$OLDPWD" --go_opt=module="$module" \
    --go-grpc_out="$OLDPWD" --go-grpc_opt=module="$module" "$@" $files
cd "$OLDPWD"
go build -o bin/follow .
