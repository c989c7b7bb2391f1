package example;

import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.google.protobuf.util.JsonFormat;
import flumina.pipelines.v1.Pipelines.State;
import flumina.pipelines.v1.Pipelines.Task;
import flumina.pipelines.v1.Pipelines.WatchRunRequest;
import flumina.pipelines.v1.Pipelines.WatchRunResponse;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import kubeflow.pipelines.backend.api.v2beta1.RunOuterClass.CreateRunRequest;
import kubeflow.pipelines.backend.api.v2beta1.RunOuterClass.Run;
import kubeflow.pipelines.backend.api.v2beta1.RuntimeConfigOuterClass.RuntimeConfig;

/** Creates a run and prints the states of its tasks until it has ended, over gRPC: {@code Follow SERVER FILE [TEXT]}. */
public final class Follow {
    private Follow() {}

    public static void main(String[] args) throws Exception {
        String text = args.length > 2 ? args[2] : "one two three";
        ManagedChannel channel = Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create())
                .intercept(authorization())
                .build();
        State state;
        try {
            state = follow(channel, Path.of(args[1]), text);
        } finally {
            channel.shutdownNow();
        }
        System.out.println("run " + state);
        System.exit(state == State.SUCCEEDED ? 0 : 1);
    }

    private static ClientInterceptor authorization() {
        Metadata headers = new Metadata();
        String token = System.getenv("FLUMINA_TOKEN");
        if (token != null && !token.isEmpty()) {
            headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
        }
        return MetadataUtils.newAttachHeadersInterceptor(headers);
    }

    private static State follow(ManagedChannel channel, Path file, String text) throws Exception {
        Struct.Builder spec = Struct.newBuilder();
        JsonFormat.parser().merge(Files.readString(file), spec);
        Run run = Run.newBuilder()
                .setDisplayName("from Java")
                .setPipelineSpec(spec)
                .setRuntimeConfig(RuntimeConfig.newBuilder()
                        .putParameters("text", Value.newBuilder().setStringValue(text).build()))
                .build();
        String id = kubeflow.pipelines.backend.api.v2beta1.RunServiceGrpc.newBlockingStub(channel)
                .createRun(CreateRunRequest.newBuilder().setRun(run).build())
                .getRunId();
        System.out.println("run " + id);

        State state = State.STATE_UNSPECIFIED;
        Iterator<WatchRunResponse> updates = flumina.pipelines.v1.RunServiceGrpc.newBlockingStub(channel)
                .watchRun(WatchRunRequest.newBuilder().setRunId(id).build());
        while (updates.hasNext()) {
            WatchRunResponse update = updates.next();
            for (Task task : update.getTasksList()) {
                if (!task.getPath().isEmpty()) {
                    System.out.println(task.getPath() + " " + task.getState());
                }
            }
            state = update.getRun().getState();
        }
        return state;
    }
}
