//! Many cases of one test at a time, each with a thread and a runtime of its own, since they mostly wait.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Cases at a time: each has several processes, and cores are few.
const AT_A_TIME: usize = 3;

/// Runs `work` for each case; fails with the names of those that failed.
pub(crate) fn each<C: Debug + Send>(cases: Vec<C>, work: impl AsyncFn(&C) + Sync) {
    let queue = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else {
                        break;
                    };
                    let run = AssertUnwindSafe(|| block_on(work(&case)));
                    if catch_unwind(run).is_err() {
                        eprintln!("failed: {case:?}");
                        failed.lock().unwrap().push(format!("{case:?}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed cases: {failed:#?}");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}
