//! The transfer program dies at every point, and is then asked again.

use std::os::unix::process::ExitStatusExt as _;

use api_step::v1::TransferRequest;
use objects::transfer::ABORT_POINTS;

use crate::bench::start;
use crate::fixture::{Fixture, noise};

/// Runs a request that dies at a point, and then once more.
async fn twice(fixture: &Fixture, request: &TransferRequest, point: &str) {
    let status = start(fixture, request.clone(), fixture.access(), "", point).await;
    assert_eq!(status.signal(), Some(9), "{point} was not reached");
    let told = fixture.path("report").exists();
    assert_eq!(told, point == "transfer.reported", "{point}");
    let status = start(fixture, request.clone(), fixture.access(), "", "").await;
    assert!(status.success(), "{point}");
    let report = crate::bench::report(fixture);
    assert_eq!(report.reason, "", "{point}: {}", report.message);
    assert_eq!(report.items[0].size_bytes, 20 << 20, "{point}");
}

/// Which points a transfer passes.
fn of(upload: bool) -> impl Iterator<Item = &'static str> {
    let alone = |point: &str, points: &[&str]| points.contains(&point);
    ABORT_POINTS.into_iter().filter(move |&point| {
        if upload {
            !alone(point, &["transfer.fetched", "transfer.renamed"])
        } else {
            let sends = ["stored", "begun", "part", "completed"];
            !sends
                .iter()
                .any(|name| point.ends_with(&format!(".{name}")))
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_killed_is_repeated_and_ends_right() {
    for point in of(true) {
        let fixture = Fixture::new().await;
        let (large, small) = (noise(20 << 20), noise(100));
        let from = fixture.write("large", &large);
        let other = fixture.write("small", &small);
        let items = [("s3://data/large", &*from), ("s3://data/small", &*other)];
        twice(&fixture, &fixture.request(true, &items), point).await;
        assert_eq!(fixture.stored(), ["large", "small"], "{point}");
        for (name, content) in [("large", large), ("small", small)] {
            let stored = std::fs::read(fixture.bucket.join(name)).unwrap();
            assert!(stored == content, "{point}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_was_killed_is_repeated_and_ends_right() {
    for point in of(false) {
        let fixture = Fixture::new().await;
        let content = noise(20 << 20);
        let from = fixture.write("from", &content);
        let stored = fixture.upload("s3://data/large", &from).await;
        assert_eq!(stored.reason, "", "{}", stored.message);
        let to = fixture.path("to/large");
        let request = fixture.request(false, &[("s3://data/large", &to)]);
        twice(&fixture, &request, point).await;
        assert!(std::fs::read(&to).unwrap() == content, "{point}");
        let left = std::fs::read_dir(fixture.path("to")).unwrap().count();
        assert_eq!(left, 1, "{point}");
    }
}
