//! A large artifact in bounded memory, by the program itself.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use api_step::v1::{TransferReport, TransferRequest};
use prost::Message as _;

use testkit_s3::{ACCESS_KEY, SECRET_KEY};

use crate::fixture::{Fixture, noise};

const GIBIBYTE: u64 = 1 << 30;
/// What a transfer may use at most, in bytes: the parts under way and the program.
const MEMORY: u64 = 64 << 20;

async fn program(fixture: &Fixture, request: TransferRequest) -> TransferReport {
    program_with(fixture, request, fixture.access(), "").await
}

async fn program_with(
    fixture: &Fixture,
    request: TransferRequest,
    stores: objects::Access,
    secrets: &str,
) -> TransferReport {
    assert!(start(fixture, request, stores, secrets, "").await.success());
    report(fixture)
}

/// The report that a program left.
pub(crate) fn report(fixture: &Fixture) -> TransferReport {
    TransferReport::decode(std::fs::read(fixture.path("report")).unwrap().as_slice()).unwrap()
}

/// Runs the transfer program in a process of its own: this test, told by a variable. It dies at a point, if there is one.
pub(crate) async fn start(
    fixture: &Fixture,
    mut request: TransferRequest,
    stores: objects::Access,
    secrets: &str,
    point: &str,
) -> std::process::ExitStatus {
    let access = fixture.path("access.json");
    std::fs::write(&access, serde_json::to_vec(&stores).unwrap()).unwrap();
    let input = fixture.write("input", secrets.as_bytes());
    request.secrets = !secrets.is_empty();
    request.access_file = access.display().to_string();
    let (asked, told) = (fixture.path("request"), fixture.path("report"));
    std::fs::write(&asked, request.encode_to_vec()).unwrap();
    tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bench::the_program", "--nocapture"])
        .env("TRANSFER_REQUEST", &asked)
        .env("TRANSFER_REPORT", &told)
        .env("FLUMINA_ABORT", point)
        .stdin(std::fs::File::open(input).unwrap())
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_signed_in_to_with_the_secret_that_came_with_the_request() {
    let fixture = Fixture::new().await;
    let signed = objects::StoreConfig {
        access_key_id: None,
        secret_access_key_file: None,
        secret: Some("keys".to_owned()),
        ..fixture.config("s3://data")
    };
    let file = fixture.write("file", b"content");
    let run = async |secrets: &str| {
        let access = objects::Access::new(
            std::slice::from_ref(&signed),
            &objects::Environment::default(),
        );
        let request = fixture.request(true, &[("s3://data/file", &file)]);
        program_with(&fixture, request, access, secrets).await
    };
    let secret = |id: &str, key: &str| {
        format!(r#"{{"keys":{{"{id}":"{ACCESS_KEY}","{key}":"{SECRET_KEY}\n"}}}}"#)
    };
    for (id, key) in [
        ("accesskey", "secretkey"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ] {
        let report = run(&secret(id, key)).await;
        assert_eq!(
            (report.reason.as_str(), report.items.len()),
            ("", 1),
            "{}",
            report.message
        );
    }
    let wrong = run(&secret("user", "secretkey")).await;
    assert!(
        wrong
            .message
            .contains("secret `keys` has no key AWS_ACCESS_KEY_ID"),
        "{wrong:?}"
    );
    assert!(wrong.message.contains("secretkey") && !wrong.message.contains(SECRET_KEY));
    let binary = run(r#"{"keys":{"accesskey":"id","secretkey":null}}"#).await;
    let said = binary.message;
    assert!(
        said.contains("key secretkey of secret `keys` is no text"),
        "{said}"
    );
    let none = run(r#"{"others":{}}"#).await;
    assert!(none.message.contains("secret `keys`"), "{}", none.message);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how the other test starts this one"
)]
fn the_program() {
    let Ok(request) = std::env::var("TRANSFER_REQUEST") else {
        // Alone it shows that a call without arguments is refused.
        assert_eq!(
            objects::transfer::run(&[]),
            std::process::ExitCode::from(64)
        );
        return;
    };
    let report = std::env::var("TRANSFER_REPORT").unwrap();
    let args = [OsString::from(request), OsString::from(report)];
    assert_eq!(
        objects::transfer::run(&args),
        std::process::ExitCode::SUCCESS
    );
}

fn write_large(path: &Path) {
    let block = noise(1 << 20);
    let mut file = std::fs::File::create(path).unwrap();
    for number in 0..GIBIBYTE / block.len() as u64 {
        file.write_all(&number.to_le_bytes()).unwrap();
        file.write_all(&block[8..]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_goes_there_and_back_in_bounded_memory() {
    let fixture = Fixture::new().await;
    let from = fixture.path("large");
    write_large(&from);
    let up = program(
        &fixture,
        fixture.request(true, &[("s3://data/large", &from)]),
    )
    .await;
    assert_eq!(up.reason, "", "{}", up.message);
    std::fs::remove_file(&from).unwrap();
    let down = program(
        &fixture,
        fixture.request(false, &[("s3://data/large", &from)]),
    )
    .await;
    assert_eq!(down.reason, "", "{}", down.message);
    assert_eq!(up.items, down.items);
    assert_eq!(down.items[0].size_bytes, GIBIBYTE);
    assert_eq!(std::fs::metadata(&from).unwrap().len(), GIBIBYTE);
    let peaks = [up.peak_memory_bytes >> 20, down.peak_memory_bytes >> 20];
    println!("peak memory in MiB, up and down: {peaks:?}");
    for report in [up, down] {
        assert!((1..MEMORY).contains(&report.peak_memory_bytes), "{peaks:?}");
    }
}
