//! A store that fails halfway.

use testkit_s3::{Fault, SECRET_KEY, What};

use crate::fixture::{Fixture, noise};

fn fault(method: &str, contains: &str, times: u64, what: What) -> Fault {
    Fault {
        method: method.to_owned(),
        contains: contains.to_owned(),
        skip: 0,
        times,
        what,
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_is_gone_on_with() {
    let fixture = Fixture::new().await;
    let content = noise(6 << 20);
    let from = fixture.write("from", &content);
    fixture.upload("s3://data/x", &from).await;
    for cut in [0, 1 << 20, 3 << 20] {
        fixture
            .server
            .fail(fault("GET", "/data/x", 1, What::Cut(cut)));
    }
    let to = fixture.path("to");
    let report = fixture.download("s3://data/x", &to).await;
    assert_eq!(report.reason, "", "{}", report.message);
    assert!(std::fs::read(&to).unwrap() == content);
}

#[tokio::test]
async fn a_server_that_recovers_is_tried_again() {
    let fixture = Fixture::new().await;
    let from = fixture.write("from", &noise(20 << 20));
    fixture
        .server
        .fail(fault("PUT", "partNumber=2", 2, What::Status(503)));
    fixture
        .server
        .fail(fault("PUT", "partNumber=3", 1, What::Cut(1 << 20)));
    let report = fixture.upload("s3://data/x", &from).await;
    assert_eq!(report.reason, "", "{}", report.message);
    assert_eq!(fixture.stored(), ["x"]);
}

#[tokio::test]
async fn an_upload_that_fails_halfway_is_named_and_withdrawn() {
    let fixture = Fixture::new().await;
    let from = fixture.write("from", &noise(40 << 20));
    for (what, said) in [
        (What::Status(403), "403"),
        (What::Status(500), "500"),
        (What::Cut(1 << 20), "no answer"),
    ] {
        fixture.server.fail(fault("PUT", "partNumber=3", 100, what));
        let report = fixture.upload("s3://data/run/x", &from).await;
        assert_eq!(report.reason, "OUTPUT_NOT_STORED");
        assert!(report.items.is_empty());
        let message = &report.message;
        assert!(
            message.contains("s3://data/run/x")
                && message.contains(said)
                && message.contains("\"model\""),
            "{message}"
        );
        assert!(
            !message.contains(SECRET_KEY) && !message.contains("Signature"),
            "{message}"
        );
        assert!(fixture.stored().is_empty(), "{:?}", fixture.stored());
        let asked = fixture.server.asked();
        let withdrawn = asked
            .iter()
            .any(|asked| asked.starts_with("DELETE") && asked.contains("uploadId="));
        assert!(withdrawn, "{asked:?}");
        fixture.server.heal();
    }
}

#[tokio::test]
async fn one_file_of_a_directory_that_cannot_be_stored_fails_all_of_it() {
    let fixture = Fixture::new().await;
    for number in 0..20 {
        fixture.write(&format!("model/{number}"), b"x");
    }
    fixture
        .server
        .fail(fault("PUT", "/run/model/7", 100, What::Status(403)));
    let report = fixture
        .upload("s3://data/run/model", &fixture.path("model"))
        .await;
    assert_eq!(report.reason, "OUTPUT_NOT_STORED");
    assert!(
        report.message.contains("s3://data/run/model/7"),
        "{}",
        report.message
    );
    assert!(fixture.stored().is_empty(), "{:?}", fixture.stored());
}

#[tokio::test]
async fn refusals_say_what_was_refused() {
    let fixture = Fixture::new().await;
    let to = fixture.path("to");
    for (uri, said) in [
        ("s3://data/none", "there is no content at `s3://data/none`"),
        ("s3://other/x", "s3://other/x"),
        ("ftp://host/x", "the schemes are"),
        ("az://container/x", "no storage account"),
    ] {
        let report = fixture.download(uri, &to).await;
        assert_eq!(report.reason, "INPUT_UNAVAILABLE", "{uri}");
        assert!(report.message.contains(said), "{}", report.message);
        assert!(!to.exists());
    }
    std::fs::write(fixture.path("secret"), "wrong").unwrap();
    let report = fixture.download("s3://data/x", &to).await;
    assert!(report.message.contains("403"), "{}", report.message);
    let from = fixture.write("from", b"x");
    let report = fixture.upload("https://host/x", &from).await;
    assert!(
        report.message.contains("can only be read"),
        "{}",
        report.message
    );
}

#[tokio::test]
async fn a_large_file_that_grows_while_it_is_stored_is_withdrawn_and_named() {
    use std::io::Write as _;
    let fixture = Fixture::new().await;
    let from = fixture.write("from", &noise(64 << 20));
    let grow = async {
        while !fixture
            .server
            .asked()
            .iter()
            .any(|asked| asked.contains("partNumber="))
        {
            tokio::task::yield_now().await;
        }
        let mut file = std::fs::File::options().append(true).open(&from).unwrap();
        file.write_all(b"more").unwrap();
    };
    let (report, ()) = tokio::join!(fixture.upload("s3://data/x", &from), grow);
    assert_eq!(report.reason, "OUTPUT_CHANGED", "{}", report.message);
    assert!(report.message.contains("s3://data/x") && report.message.contains("\"model\""));
    assert!(fixture.stored().is_empty(), "{:?}", fixture.stored());
}

#[tokio::test]
async fn a_transfer_that_is_stopped_withdraws_what_it_began() {
    let fixture = Fixture::new().await;
    let from = fixture.write("from", &noise(40 << 20));
    // It keeps failing, so the transfer waits between two attempts.
    fixture
        .server
        .fail(fault("PUT", "partNumber=2", 100, What::Status(503)));
    let stop = tokio::sync::watch::Sender::new(false);
    let request = fixture.request(true, &[("s3://data/x", &from)]);
    let moved = objects::transfer::move_all(&request, fixture.access(), stop.clone());
    let told = async {
        while !fixture
            .server
            .asked()
            .iter()
            .any(|asked| asked.contains("partNumber=2"))
        {
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
    };
    let (report, ()) = tokio::join!(moved, told);
    assert_eq!(report.reason, "STOPPED");
    let asked = fixture.server.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.starts_with("DELETE") && asked.contains("uploadId="))
    );
}
