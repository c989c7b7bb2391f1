// Follow creates a run and prints the states of its tasks until it has ended, over gRPC.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	flumina "example.com/follow/gen/flumina/pipelines/v1"
	kfp "example.com/follow/gen/kubeflow/pipelines/backend/api/v2beta1"
)

func main() {
	server := flag.String("server", "127.0.0.1:8080", "where Flumina is")
	text := flag.String("text", "one two three", "the pipeline's parameter")
	flag.Parse()
	state, err := follow(*server, *text, flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("run", state)
	if state != flumina.State_SUCCEEDED {
		os.Exit(1)
	}
}

func follow(server, text, file string) (flumina.State, error) {
	ctx := context.Background()
	if token := os.Getenv("FLUMINA_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	spec := &structpb.Struct{}
	if err := protojson.Unmarshal(content, spec); err != nil {
		return 0, err
	}
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer conn.Close()

	created, err := kfp.NewRunServiceClient(conn).CreateRun(ctx, &kfp.CreateRunRequest{Run: &kfp.Run{
		DisplayName:    "from Go",
		PipelineSource: &kfp.Run_PipelineSpec{PipelineSpec: spec},
		RuntimeConfig: &kfp.RuntimeConfig{
			Parameters: map[string]*structpb.Value{"text": structpb.NewStringValue(text)},
		},
	}})
	if err != nil {
		return 0, err
	}
	fmt.Println("run", created.RunId)

	updates, err := flumina.NewRunServiceClient(conn).WatchRun(ctx, &flumina.WatchRunRequest{RunId: created.RunId})
	if err != nil {
		return 0, err
	}
	state := flumina.State_STATE_UNSPECIFIED
	for {
		update, err := updates.Recv()
		if errors.Is(err, io.EOF) {
			return state, nil
		}
		if err != nil {
			return 0, err
		}
		for _, task := range update.Tasks {
			if task.Path != "" {
				fmt.Println(task.Path, task.State)
			}
		}
		state = update.Run.GetState()
	}
}
