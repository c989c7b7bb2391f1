//! Files and directories there and back.

use std::os::unix::fs::symlink;

use crate::fixture::{Fixture, noise};

#[tokio::test]
async fn files_of_all_sizes_come_back_as_they_went() {
    let fixture = Fixture::new().await;
    for (size, scheme) in [
        (0, "s3"),
        (1, "minio"),
        (8 << 20, "s3"),
        ((8 << 20) + 1, "s3"),
        (20 << 20, "minio"),
    ] {
        let content = noise(size);
        let from = fixture.write("from", &content);
        let uri = format!("{scheme}://data/run/{size}.bin");
        let up = fixture.upload(&uri, &from).await;
        assert_eq!(up.reason, "", "{}", up.message);
        let to = fixture.path("to/there.bin");
        let down = fixture.download(&uri, &to).await;
        assert_eq!(down.reason, "", "{}", down.message);
        assert_eq!(up.items, down.items);
        let item = &down.items[0];
        assert!(item.present && !item.directory && item.size_bytes == size as u64);
        assert!(
            std::fs::read(&to).unwrap() == content,
            "{size} bytes differ"
        );
    }
}

#[tokio::test]
async fn directories_keep_their_paths_and_the_documented_digest() {
    let fixture = Fixture::new().await;
    fixture.write("model/b/c/weights", b"abc");
    fixture.write("model/a b", b"");
    fixture.write("model/b-c", b"x");
    symlink("b/c/weights", fixture.path("model/latest")).unwrap();
    let up = fixture
        .upload("s3://data/run/model", &fixture.path("model"))
        .await;
    assert_eq!(up.reason, "", "{}", up.message);
    let there = [
        "run/model/a b",
        "run/model/b-c",
        "run/model/b/c/weights",
        "run/model/latest",
    ];
    assert_eq!(fixture.stored(), there);
    let down = fixture
        .download("s3://data/run/model", &fixture.path("back"))
        .await;
    assert_eq!(down.reason, "", "{}", down.message);
    assert_eq!(up.items, down.items);
    assert!(down.items[0].directory);
    assert_eq!(down.items[0].size_bytes, 7);
    assert_eq!(
        std::fs::read(fixture.path("back/b/c/weights")).unwrap(),
        b"abc"
    );
    assert_eq!(std::fs::read(fixture.path("back/latest")).unwrap(), b"abc");
}

#[tokio::test]
async fn many_artifacts_move_at_the_same_time() {
    let fixture = Fixture::new().await;
    let names: Vec<(String, std::path::PathBuf)> = (0..40)
        .map(|number| {
            let path = fixture.write(&format!("in/{number}"), &noise(number * 1000));
            (format!("s3://data/many/{number}"), path)
        })
        .collect();
    let items: Vec<(&str, &std::path::Path)> = names
        .iter()
        .map(|(uri, path)| (uri.as_str(), path.as_path()))
        .collect();
    let report = fixture.run(&fixture.request(true, &items)).await;
    assert_eq!(report.reason, "", "{}", report.message);
    let sizes: Vec<u64> = report.items.iter().map(|item| item.size_bytes).collect();
    assert_eq!(
        sizes,
        (0..40).map(|number| number * 1000).collect::<Vec<u64>>()
    );
}

#[tokio::test]
async fn nothing_is_nothing_and_what_cannot_be_stored_is_named() {
    let fixture = Fixture::new().await;
    let none = fixture
        .upload("s3://data/none", &fixture.path("none"))
        .await;
    assert!(none.reason.is_empty() && !none.items[0].present);
    fixture.write("model/x", b"x");
    symlink("/etc/passwd", fixture.path("model/link")).unwrap();
    let out = fixture
        .upload("s3://data/model", &fixture.path("model"))
        .await;
    assert_eq!(out.reason, "OUTPUT_INVALID");
    assert!(
        out.message.contains("link") && out.message.contains("\"model\""),
        "{}",
        out.message
    );
    assert!(fixture.stored().is_empty());
}

#[tokio::test]
async fn a_digest_that_differs_is_refused_and_nothing_appears() {
    let fixture = Fixture::new().await;
    let from = fixture.write("from", b"content");
    fixture.upload("s3://data/x", &from).await;
    let to = fixture.path("to/x");
    let mut request = fixture.request(false, &[("s3://data/x", &to)]);
    request.items[0].sha256 = "00".repeat(32);
    let report = fixture.run(&request).await;
    assert_eq!(report.reason, "INPUT_CORRUPT");
    assert!(report.message.contains("s3://data/x"), "{}", report.message);
    assert!(!to.exists());
}
