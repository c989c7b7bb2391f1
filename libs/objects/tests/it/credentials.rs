//! What signs in goes where it belongs, and into no message.

use objects::{Access, Environment, StoreConfig};

use crate::fixture::Fixture;
use crate::recorder::Recorder;

const CANARY: &str = "canaryCANARYcanary";

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::of(variables.iter().copied())
}

async fn fetch(fixture: &Fixture, access: Access, uri: &str) -> String {
    let request = fixture.request(false, &[(uri, &fixture.path("to"))]);
    let stop = tokio::sync::watch::Sender::new(false);
    objects::transfer::move_all(&request, access, stop)
        .await
        .message
}

#[tokio::test]
async fn an_account_that_is_not_the_configured_one_is_refused() {
    let fixture = Fixture::new().await;
    let server = Recorder::empty();
    let key = fixture.write("key", b"a2V5");
    let store = StoreConfig {
        uri: "abfss://c@theirs.dfs.core.windows.net".to_owned(),
        endpoint: Some(server.endpoint()),
        account: Some("ours".to_owned()),
        account_key_file: Some(key),
        ..StoreConfig::default()
    };
    let problems = store.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("`ours`") && problems[0].contains("`theirs`"),
        "{problems:?}"
    );
    let access = Access::new(&[store], &Environment::default());
    let uri = "abfss://c@theirs.dfs.core.windows.net/x";
    let said = fetch(&fixture, access, uri).await;
    assert!(
        said.contains("`theirs`") && said.contains("`ours`"),
        "{said}"
    );
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn keys_of_the_environment_do_not_go_to_endpoints_of_the_configuration() {
    let fixture = Fixture::new().await;
    let variables = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "key"),
        ("AWS_SESSION_TOKEN", CANARY),
        ("AZURE_STORAGE_ACCOUNT", "ours"),
        ("AZURE_STORAGE_KEY", "a2V5"),
        ("AZURE_STORAGE_SAS_TOKEN", CANARY),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere"),
    ];
    let server = Recorder::empty();
    for (uri, account) in [
        ("s3://data", None),
        ("minio://data", None),
        ("gs://data", None),
        ("az://data", Some("ours")),
    ] {
        let store = StoreConfig {
            uri: uri.to_owned(),
            endpoint: Some(server.endpoint()),
            account: account.map(str::to_owned),
            ..StoreConfig::default()
        };
        let access = Access::new(&[store], &environment(&variables));
        let before = server.asked().len();
        let said = fetch(&fixture, access, &format!("{uri}/x")).await;
        let asked = server.asked().split_off(before);
        assert!(!asked.is_empty(), "{uri}: {said}");
        for head in asked {
            let signed = head.to_ascii_lowercase().contains("\nauthorization:");
            assert!(!signed && !head.contains(CANARY), "{uri}: {head}");
        }
    }
    // Where the environment itself says so, they go.
    let endpoint = server.endpoint();
    let mut known = variables.to_vec();
    known.push(("AWS_ENDPOINT_URL", &endpoint));
    fetch(
        &fixture,
        Access::new(&[], &environment(&known)),
        "s3://data/x",
    )
    .await;
    let last = server.asked().pop().unwrap();
    assert!(last.contains(CANARY), "{last}");
}

/// A store of a scheme with secrets of every kind, as they should not be.
fn malformed(fixture: &Fixture, uri: &str, endpoint: &str) -> Vec<StoreConfig> {
    let file = |name: &str, text: &str| Some(fixture.write(name, text.as_bytes()));
    let plain = StoreConfig {
        uri: uri.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        ..StoreConfig::default()
    };
    let google = [
        format!(
            r#"{{"type":"service_account","private_key":"{CANARY}","private_key_id":"{CANARY}","client_email":"a@b"}}"#
        ),
        format!(r#"{{"type":"{CANARY}"}}"#),
        format!(r#"{{"type":"service_account","private_key":["{CANARY}"]}}"#),
        format!(r#""{CANARY}""#),
    ];
    let mut all = vec![
        StoreConfig {
            access_key_id: Some("id".to_owned()),
            secret_access_key_file: file("s3-key", CANARY),
            session_token_file: file("token", &format!("{CANARY}\n{CANARY}\u{1}")),
            ..plain.clone()
        },
        StoreConfig {
            account: Some("ours".to_owned()),
            account_key_file: file("azure", &format!("-{CANARY}-")),
            ..plain.clone()
        },
        StoreConfig {
            account: Some("ours".to_owned()),
            sas_token_file: file("sas", CANARY),
            ..plain.clone()
        },
        StoreConfig {
            account: Some("ours".to_owned()),
            sas_token_file: file("sas-2", &format!("?sig={CANARY}&a=%zz")),
            ..plain.clone()
        },
        StoreConfig {
            endpoint: Some(format!("http://user:{CANARY}@nowhere.invalid:99999/x")),
            ..plain.clone()
        },
    ];
    all.extend(google.iter().enumerate().map(|(number, text)| StoreConfig {
        credentials_file: file(&format!("google-{number}"), text),
        ..plain.clone()
    }));
    all
}

#[tokio::test]
async fn no_message_has_a_secret_in_it() {
    let fixture = Fixture::new().await;
    let from = fixture.write("from", b"x");
    // A server that sends back what signs in, in every way that it can.
    let server = Recorder::start(|_, path| {
        let body =
            format!("<Error><Code>{CANARY}{CANARY}{CANARY}{CANARY} {path}</Code></Error>{CANARY}");
        (403, String::new(), body)
    });
    let variables = [
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("AZURE_STORAGE_ACCOUNT", "theirs"),
        ("AZURE_STORAGE_KEY", CANARY),
        ("AZURE_STORAGE_SAS_TOKEN", CANARY),
    ];
    for uri in ["s3://data", "minio://data", "gs://data", "az://data"] {
        let mut stores = malformed(&fixture, uri, &server.endpoint());
        stores.extend(malformed(&fixture, uri, "http://127.0.0.1:1"));
        // All at once: what nobody answers is tried again for seconds.
        let mut tried = Vec::new();
        for (number, store) in stores.into_iter().enumerate() {
            for upload in [false, true] {
                let to = fixture.path(&format!("to-{number}"));
                let path = if upload { &from } else { &to };
                let request = fixture.request(upload, &[(&format!("{uri}/x"), path)]);
                let access = Access::new(std::slice::from_ref(&store), &environment(&variables));
                let store = store.clone();
                tried.push(async move {
                    let stop = tokio::sync::watch::Sender::new(false);
                    let report = objects::transfer::move_all(&request, access, stop).await;
                    (store, report)
                });
            }
        }
        for (store, report) in futures_util::future::join_all(tried).await {
            assert_ne!(report.reason, "", "{store:?}");
            let message = &report.message;
            assert!(!message.contains(CANARY), "{store:?}: {message}");
        }
    }
    for uri in [
        format!("http://user:{CANARY}@127.0.0.1:1/x?token={CANARY}"),
        format!("https://127.0.0.1:1/x?token={CANARY}#{CANARY}"),
        format!("{}/x?token={CANARY}", server.endpoint()),
    ] {
        let said = fetch(&fixture, Access::default(), &uri).await;
        assert!(!said.contains(CANARY) && !said.is_empty(), "{said}");
    }
}
