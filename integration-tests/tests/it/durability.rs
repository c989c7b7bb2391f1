//! An acknowledged write has reached the disk: the system calls that make it so are counted.

use std::time::{SystemTime, UNIX_EPOCH};

use flumina_integration_tests::{Node, Options};
use futures_util::future::join_all;

/// Writes one after the other.
const SERIAL: usize = 20;
/// Writes at a time.
const TOGETHER: usize = 200;

/// Seconds since 1970, as strace prints them.
#[expect(
    clippy::disallowed_methods,
    reason = "compared with the times of another program"
)]
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[tokio::test]
async fn every_acknowledged_write_is_synced_and_writes_at_a_time_share() {
    let mut node = Node::new();
    let trace = node.path("trace");
    let strace = testkit::env().path("strace");
    let wrapper = [
        strace.to_str().unwrap(),
        "-f",
        "--seccomp-bpf",
        "-ttt",
        "-e",
        "trace=fsync,fdatasync",
        "-o",
        trace.to_str().unwrap(),
    ];
    let wrapper = wrapper.map(str::to_owned).to_vec();
    node.start(&Options {
        wrapper,
        ..Options::default()
    });
    let client = node.client();
    client.create_experiment("warm").await.unwrap();

    let mut windows = Vec::new();
    for number in 0..SERIAL {
        let from = now();
        client
            .create_experiment(&format!("serial-{number}"))
            .await
            .unwrap();
        windows.push((from, now()));
    }
    let from = now();
    let calls = (0..TOGETHER).map(|number| {
        let client = client.clone();
        async move {
            client
                .create_experiment(&format!("together-{number}"))
                .await
        }
    });
    let answers = join_all(calls).await;
    let together = (from, now());
    assert!(answers.iter().all(Result::is_ok));
    node.stop();

    let text = std::fs::read_to_string(trace).unwrap();
    let syncs: Vec<f64> = text.lines().filter_map(sync_time).collect();
    let within = |(from, to): (f64, f64)| {
        syncs
            .iter()
            .filter(|time| (from..=to).contains(*time))
            .count()
    };
    let counts: Vec<usize> = windows.iter().map(|window| within(*window)).collect();
    println!("syncs of {SERIAL} writes one by one: {counts:?}");
    assert!(
        counts.iter().all(|count| *count >= 1),
        "a write was not synced: {counts:?}"
    );
    // A checkpoint of the write-ahead log now and then costs two more.
    assert!(counts.iter().sum::<usize>() <= SERIAL * 2, "{counts:?}");
    let shared = within(together);
    println!("syncs of {TOGETHER} writes at a time: {shared}");
    assert!(shared >= 1);
    assert!(
        shared < TOGETHER / 2,
        "{shared} syncs for {TOGETHER} writes at a time"
    );
}

/// `1234 1700000000.123456 fdatasync(7) = 0`, or the end of one that was interrupted by another thread's line.
fn sync_time(line: &str) -> Option<f64> {
    let mut words = line.split_whitespace();
    let time = words.nth(1)?.parse().ok()?;
    let rest = words.next()?;
    (rest.starts_with("fsync(") || rest.starts_with("fdatasync(")).then_some(time)
}
