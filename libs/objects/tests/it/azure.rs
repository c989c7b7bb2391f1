//! What only Azure does: folders that look like empty objects.

use objects::{Access, Environment, Store, StoreConfig};

use crate::fixture::Fixture;
use crate::recorder::Recorder;

const ENORMOUS: u64 = 1 << 60;

/// A container with a folder `run/model` and the blobs in it, each of a size.
fn container(marked: bool, blobs: &'static [(&'static str, u64)]) -> Recorder {
    Recorder::start(move |method, path| {
        let about = "etag: \"1\"\r\nlast-modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
        let about = if marked {
            format!("{about}x-ms-meta-hdi_isfolder: true\r\n")
        } else {
            about.to_owned()
        };
        if path.contains("comp=list") {
            let blob = |(name, size): &(&str, u64)| {
                format!(
                    "<Blob><Name>run/model/{name}</Name><Properties><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified>\
                     <Content-Length>{size}</Content-Length><Content-Type>x</Content-Type><Etag>1</Etag></Properties></Blob>"
                )
            };
            let blobs: String = blobs.iter().map(blob).collect();
            let body = format!(
                "<?xml version=\"1.0\"?><EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>"
            );
            return (200, "content-type: application/xml\r\n".to_owned(), body);
        }
        match (method, path.ends_with("/run/model")) {
            ("HEAD", true) => (200, about, String::new()),
            ("GET", false) => (200, about, "abc".to_owned()),
            _ => (404, String::new(), String::new()),
        }
    })
}

fn access(server: &Recorder) -> Access {
    let store = StoreConfig {
        uri: "abfss://c@ours.dfs.core.windows.net".to_owned(),
        endpoint: Some(server.endpoint()),
        anonymous: true,
        ..StoreConfig::default()
    };
    Access::new(&[store], &Environment::default())
}

const URI: &str = "abfss://c@ours.dfs.core.windows.net/run/model";

#[tokio::test]
async fn a_folder_that_looks_like_an_empty_blob_is_a_folder() {
    for marked in [false, true] {
        let fixture = Fixture::new().await;
        let server = container(marked, &[("a", 3), ("sub/b", 3)]);
        let store = Store::with_access(&fixture.path("artifacts"), access(&server)).unwrap();
        assert!(store.stat(URI).await.unwrap().unwrap().directory);
        let files = store.list(URI, "", 10).await.unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a", "sub/b"]);
        let to = fixture.path("to");
        let request = fixture.request(false, &[(URI, &to)]);
        let stop = tokio::sync::watch::Sender::new(false);
        let report = objects::transfer::move_all(&request, access(&server), stop).await;
        assert_eq!(report.reason, "", "{}", report.message);
        assert!(report.items[0].directory && report.items[0].size_bytes == 6);
        assert_eq!(std::fs::read_to_string(to.join("sub/b")).unwrap(), "abc");
    }
}

#[tokio::test]
async fn a_folder_that_the_disk_cannot_hold_is_not_begun() {
    let fixture = Fixture::new().await;
    let server = container(true, &[("a", 3), ("b", ENORMOUS)]);
    let to = fixture.path("to");
    let request = fixture.request(false, &[(URI, &to)]);
    let stop = tokio::sync::watch::Sender::new(false);
    let report = objects::transfer::move_all(&request, access(&server), stop).await;
    assert_eq!(report.reason, "DISK_FULL", "{}", report.message);
    let bytes = (ENORMOUS + 3).to_string();
    assert!(
        report.message.contains(&bytes) && report.message.contains("\"model\""),
        "{}",
        report.message
    );
    assert!(!to.exists());
    let fetched = server
        .asked()
        .into_iter()
        .find(|head| head.starts_with("GET") && !head.contains("comp=list"));
    assert_eq!(fetched, None);
}
