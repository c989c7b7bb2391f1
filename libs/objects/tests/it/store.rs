//! What the service reads and removes.

use objects::{Access, Environment, Error, NAMESPACE, Store, StoreConfig};

use crate::fixture::Fixture;

async fn text(store: &Store, uri: &str, path: &str, offset: u64) -> (u64, String) {
    let mut reader = store.read(uri, path, offset).await.unwrap();
    let mut all = Vec::new();
    loop {
        let part = reader.next().await.unwrap();
        if part.is_empty() {
            return (reader.size, String::from_utf8(all).unwrap());
        }
        all.extend_from_slice(&part);
    }
}

#[tokio::test]
async fn remote_content_is_listed_read_and_removed() {
    let fixture = Fixture::new().await;
    let store = Store::with_access(&fixture.path("artifacts"), fixture.access()).unwrap();
    for name in ["a.json", "b/weights", "c"] {
        fixture.write(&format!("model/{name}"), name.as_bytes());
    }
    let uri = "s3://data/run/model";
    fixture.upload(uri, &fixture.path("model")).await;
    let kept = fixture.write("kept", b"kept");
    fixture.upload("s3://data/run/models", &kept).await;

    assert!(store.stat(uri).await.unwrap().unwrap().directory);
    assert_eq!(
        store
            .stat("s3://data/run/models")
            .await
            .unwrap()
            .unwrap()
            .size,
        4
    );
    assert!(store.stat("s3://data/none").await.unwrap().is_none());
    let paths = async |after: &str, limit| {
        let files = store.list(uri, after, limit).await.unwrap();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(paths("", 10).await, ["a.json", "b/weights", "c"]);
    assert_eq!(paths("", 2).await, ["a.json", "b/weights"]);
    assert_eq!(paths("b/weights", 2).await, ["c"]);
    assert_eq!(
        text(&store, uri, "b/weights", 2).await,
        (9, "weights".to_owned())
    );
    assert_eq!(
        text(&store, "s3://data/run/models", "", 0).await,
        (4, "kept".to_owned())
    );
    assert_eq!(
        text(&store, "s3://data/run/models", "", 9).await,
        (4, String::new())
    );
    for path in ["../models", "/x", "b//weights", "none"] {
        assert!(store.read(uri, path, 0).await.is_err(), "{path}");
    }

    assert!(
        store.contains(uri) && !store.contains("s3://other/x") && !store.contains("gs://data/x")
    );
    store.delete(uri).await.unwrap();
    store.delete(uri).await.unwrap();
    assert_eq!(fixture.stored(), ["run/models"]);
    assert!(store.delete("s3://data").await.is_err());
}

#[tokio::test]
async fn directories_of_the_configuration_are_stores() {
    let fixture = Fixture::new().await;
    let mounted = fixture.path("mounted");
    let config = objects::StoreConfig {
        uri: mounted.display().to_string(),
        ..objects::StoreConfig::default()
    };
    let access = Access::new(&[config], &objects::Environment::default());
    let own = fixture.path("artifacts");
    assert!(matches!(
        Store::with_access(&own, access.clone()),
        Err(Error::Unconfigured { .. })
    ));
    std::fs::create_dir(&mounted).unwrap();
    let store = Store::with_access(&own, access).unwrap();
    let file = fixture.write("mounted/run/x", b"content");
    let uri = format!("file://{}", file.display());
    assert_eq!(text(&store, &uri, "", 0).await.1, "content");
    store.delete(&uri).await.unwrap();
    assert!(!file.exists() && mounted.exists());
    assert!(matches!(
        store.stat("/etc/passwd").await,
        Err(Error::Foreign { .. })
    ));
}

#[tokio::test]
async fn the_service_asks_no_web_server_for_anybody() {
    let fixture = Fixture::new().await;
    let store = Store::with_access(&fixture.path("artifacts"), fixture.access()).unwrap();
    let uri = "http://127.0.0.1:1/latest?token=canary";
    let errors = [
        store.stat(uri).await.map(drop).unwrap_err(),
        store.list(uri, "", 1).await.map(drop).unwrap_err(),
        store.read(uri, "", 0).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        let said = error.to_string();
        assert!(said.contains("is read by steps"), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn the_stores_of_other_namespaces_are_closed_to_the_service() {
    let fixture = Fixture::new().await;
    let closed = |namespace: &str| {
        let config = StoreConfig {
            namespaces: vec![namespace.to_owned()],
            ..fixture.config("s3://data")
        };
        let access = Access::new(&[config], &Environment::default());
        Store::with_access(&fixture.path("artifacts"), access).unwrap()
    };
    let uri = "s3://data/run/none";
    assert!(closed(NAMESPACE).stat(uri).await.unwrap().is_none());
    assert!(closed("team").stat(uri).await.is_err());
    assert!(closed(NAMESPACE).contains(uri) && !closed("team").contains(uri));
}

#[tokio::test]
async fn names_that_would_change_the_host_are_refused_without_showing_secrets() {
    let fixture = Fixture::new().await;
    let store = Store::with_access(&fixture.path("artifacts"), fixture.access()).unwrap();
    for uri in [
        "s3://key:canary@data/x",
        "s3://da?ta/x",
        "s3://../x",
        "abfss://c@2130706433#/x",
        "abfss://c@evil%2ehost.dfs.core.windows.net/x",
    ] {
        let said = store.stat(uri).await.map(drop).unwrap_err().to_string();
        assert!(!said.contains("canary"), "{said}");
    }
}
