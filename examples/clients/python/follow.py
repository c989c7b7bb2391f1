"""Creates a run and prints the states of its tasks until it has ended, over gRPC.

    python follow.py [--server 127.0.0.1:8080] [--text TEXT] ../pipeline.json
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "gen"))

import grpc
from flumina.pipelines.v1 import pipelines_pb2, pipelines_pb2_grpc
from google.protobuf import json_format
from kubeflow.pipelines.backend.api.v2beta1 import run_pb2, run_pb2_grpc


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", help="a pipeline, compiled to JSON")
    parser.add_argument("--server", default="127.0.0.1:8080")
    parser.add_argument("--text", default="one two three")
    args = parser.parse_args()

    token = os.environ.get("FLUMINA_TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(args.server) as channel:
        run = run_pb2.Run(display_name="from Python")
        with open(args.pipeline) as file:
            json_format.Parse(file.read(), run.pipeline_spec)
        run.runtime_config.parameters["text"].string_value = args.text
        request = run_pb2.CreateRunRequest(run=run)
        created = run_pb2_grpc.RunServiceStub(channel).CreateRun(request, metadata=metadata, timeout=30)
        print(f"run {created.run_id}", flush=True)

        runs = pipelines_pb2_grpc.RunServiceStub(channel)
        state = pipelines_pb2.STATE_UNSPECIFIED
        for update in runs.WatchRun(pipelines_pb2.WatchRunRequest(run_id=created.run_id), metadata=metadata):
            for task in update.tasks:
                if task.path:
                    print(f"{task.path} {pipelines_pb2.State.Name(task.state)}", flush=True)
            state = update.run.state
        print(f"run {pipelines_pb2.State.Name(state)}")
    sys.exit(state != pipelines_pb2.SUCCEEDED)


if __name__ == "__main__":
    main()
