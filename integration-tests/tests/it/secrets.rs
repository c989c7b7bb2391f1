//! What is secret to us does not reach steps, logs or files.

use std::fs;
use std::path::Path;

use api_pipelines::v1::State;
use flumina_integration_tests::{Client, Fleet, Node, Options, Part, Pipeline, Step, Stores};

/// Prints the environment of the program and of its supervisor.
fn telltale() -> Pipeline {
    let script =
        "env; tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' ' ' < /proc/$PPID/cmdline; echo";
    Pipeline::new("telltale").step(Step::shell("tell", script))
}

async fn tell(client: &Client) -> String {
    let run = client.submit(&telltale(), "key").await;
    let ended = client.wait_end(&run).await;
    assert_eq!(ended.state(), State::Succeeded, "{ended:?}");
    let log = client.log(&run, "tell", 0).await.unwrap();
    assert!(
        log.contains("FLUMINA_ATTEMPT=") && log.contains("flumina-agent"),
        "{log}"
    );
    log
}

fn files_with(dir: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                // Our own programs have the names of variables and schemes in them.
                if entry.file_name() != "bin" {
                    todo.push(path);
                }
                continue;
            }
            let content = fs::read(&path).unwrap_or_default();
            if content
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn the_token_of_a_node_stays_with_it() {
    const TOKEN: &str = "s3cret-token-of-the-node";
    let mut node = Node::new();
    let options = Options::default()
        .env("FLUMINA_TOKEN", TOKEN)
        .env("RUST_LOG", "debug")
        .env("DATABASE_URL", "postgres://user:s3cret-password@nowhere/db");
    node.start(&options);
    let client = Client::new(node.url(), Some(TOKEN));
    let log = tell(&client).await;
    for secret in [TOKEN, "s3cret-password", "FLUMINA_TOKEN"] {
        assert!(!log.contains(secret), "{log}");
        assert!(!node.process().output().contains(secret));
        assert_eq!(files_with(&node.data_dir(), secret), Vec::<String>::new());
    }
}

#[tokio::test]
async fn tokens_and_databases_of_a_fleet_stay_with_their_services() {
    let mut fleet = Fleet::new(Stores::Postgres);
    let url = fleet.database(Part::Runner).unwrap().to_owned();
    for part in Part::ALL {
        let env = [
            ("FLUMINA_RUNNER__TOKEN", Part::Runner.token()),
            ("DATABASE_URL", url.as_str()),
        ];
        let env = if part == Part::Runner { &env[..] } else { &[] };
        fleet.start(part, env).await;
    }
    let log = tell(&fleet.client()).await;
    let mut secrets: Vec<&str> = Part::ALL.map(Part::token).to_vec();
    secrets.push("postgres://");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret}: {log}");
        for part in Part::ALL {
            assert!(
                !fleet.output(part).contains(secret),
                "{secret}: {}",
                fleet.output(part)
            );
            assert_eq!(
                files_with(&fleet.data_dir(part), secret),
                Vec::<String>::new()
            );
        }
    }
}
