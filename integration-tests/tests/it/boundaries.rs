//! Our process dies as it enters a system call that makes something durable or visible: the n-th sync of a database's
//! log is its n-th commit, and a file of a workload appears by a rename. No list of ours decides where these are.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;

use flumina_integration_tests::{Node, Options, Verdict};

use crate::cases::each;
use crate::service_deaths::{Death, diamond};

/// Commits from the first start to the end of a run; there are more, but no new kinds.
const COMMITS: usize = 12;

#[derive(Debug)]
struct Case {
    /// The database whose commits count; renames when empty.
    database: &'static str,
    count: usize,
    death: Death,
}

#[test]
fn no_step_is_lost_or_repeated_whichever_commit_or_rename_is_the_last() {
    let mut cases = Vec::new();
    for count in 1..=COMMITS {
        for database in ["pipeline-orchestrator.sqlite", "runner.sqlite"] {
            let death = Death::ALL[count % 3];
            cases.push(Case {
                database,
                count,
                death,
            });
        }
    }
    for count in 1..=3 {
        cases.push(Case {
            database: "",
            count,
            death: Death::Service,
        });
    }
    let reached = Mutex::new(Vec::new());
    each(cases, async |case| {
        if survives(case).await {
            reached.lock().unwrap().push((case.database, case.count));
        }
    });
    let mut reached = reached.into_inner().unwrap();
    reached.sort_unstable();
    println!("died at {reached:?}");
    for (database, least) in [
        ("pipeline-orchestrator.sqlite", 8),
        ("runner.sqlite", 6),
        ("", 1),
    ] {
        let count = reached.iter().filter(|(name, _)| *name == database).count();
        assert!(
            count >= least,
            "{database} died at {count} places only: {reached:?}"
        );
    }
}

/// The strace that kills. It leaves agents alone: they are no longer traced once they are executed.
fn wrapper(node: &Node, case: &Case) -> Vec<String> {
    let strace = testkit::env().path("strace").display().to_string();
    let flags = ["-f", "--seccomp-bpf", "-b", "execve"].map(str::to_owned);
    let mut words = vec![strace];
    words.extend(flags);
    let calls = if case.database.is_empty() {
        "rename,renameat,renameat2"
    } else {
        let log = node.data_dir().join(format!("{}-wal", case.database));
        words.extend(["-P".to_owned(), log.display().to_string()]);
        "fsync,fdatasync"
    };
    words.extend([
        "-e".to_owned(),
        format!("trace={calls}"),
        "-e".to_owned(),
        format!("inject={calls}:signal=KILL:when={}", case.count),
        "-o".to_owned(),
        node.path("trace").display().to_string(),
    ]);
    words
}

/// True when the process died on the way.
async fn survives(case: &Case) -> bool {
    let mut node = Node::new();
    let witness = node.witness();
    let pipeline = diamond(&witness);
    // A data directory that exists, so that the commits are those of a run.
    node.start(&Options::default().boot("boot-one"));
    node.kill();
    let options = Options {
        wrapper: wrapper(&node, case),
        ..Options::default().boot("boot-one")
    };
    let mut died = !node.try_start(&options);
    let mut first = None;
    if !died {
        let client = node.client();
        first = client.try_submit(&pipeline, "key").await.ok();
        died = match &first {
            Some(run) => client.try_wait_end(run).await.is_err(),
            None => true,
        };
    }
    if died {
        let (status, _) = node.wait();
        // strace ends as its program did.
        assert_eq!(status.signal(), Some(9), "{status:?}");
        case.death.finish(&mut node);
    }
    let client = node.client();
    let run = client.submit(&pipeline, "key").await;
    assert!(first.is_none_or(|first| first == run));
    let verdict = Verdict::of(&client, &run, &witness).await;
    verdict.assert_promise();
    verdict.assert_succeeded();
    if !died || case.death == Death::Service {
        verdict.assert_nothing_lost();
    }
    node.wait_quiet().await;
    died
}
