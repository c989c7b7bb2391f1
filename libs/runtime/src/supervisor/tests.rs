use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Notify, mpsc, oneshot};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

async fn soon<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("it did not happen in time"),
    }
}

#[tokio::test]
async fn tasks_and_children_end_in_reverse_order() {
    let root = Supervisor::new("root");
    let (sender, mut ended) = mpsc::unbounded_channel();
    let start = |supervisor: &Supervisor, name: &'static str| {
        let sender = sender.clone();
        supervisor.spawn(Kind::WORKER, name, move |shutdown| {
            let sender = sender.clone();
            async move {
                shutdown.wait().await;
                // Those that started earlier must still be running.
                tokio::task::yield_now().await;
                sender.send(name).unwrap();
            }
        });
    };
    start(&root, "first");
    let child = root.child("child");
    start(&root, "second");
    start(&child, "in child 1");
    start(&child, "in child 2");
    assert!(soon(root.shutdown(PATIENCE)).await.is_empty());
    let mut order = Vec::new();
    while let Ok(name) = ended.try_recv() {
        order.push(name);
    }
    assert_eq!(order, ["second", "in child 2", "in child 1", "first"]);
}

#[tokio::test]
async fn a_task_that_panics_or_fails_starts_again() {
    let root = Supervisor::new("root");
    let attempts = Arc::new(AtomicU32::new(0));
    let (sender, recovered) = oneshot::channel();
    let mut sender = Some(sender);
    root.spawn(Kind::WORKER, "shaky", move |_| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        let sender = (attempt == 2).then(|| sender.take()).flatten();
        async move {
            match attempt {
                0 => panic!("first"),
                1 => Err("second"),
                _ => {
                    sender.unwrap().send(attempt).unwrap();
                    Ok(())
                }
            }
        }
    });
    assert_eq!(soon(recovered).await.unwrap(), 2);
}

#[tokio::test]
async fn an_essential_task_that_fails_ends_the_process() {
    let root = Supervisor::new("root");
    let child = root.child("grpc");
    child.spawn_once(OnCancel::Wait, "server", async {
        Err::<(), _>(std::io::Error::other("port lost"))
    });
    let ending = soon(root.ending()).await;
    assert_eq!(
        ending,
        Ending::Failed("root/grpc/server: port lost".to_owned())
    );
    root.request_stop();
    assert_eq!(soon(root.ending()).await, ending, "the first reason stays");
}

#[tokio::test]
async fn helpers_are_dropped_where_they_stand() {
    let root = Supervisor::new("root");
    root.spawn(Kind::HELPER, "stuck", |_| std::future::pending::<()>());
    let late = soon(root.shutdown(PATIENCE)).await;
    assert!(late.is_empty(), "{late:?}");
}

#[tokio::test]
async fn who_outlives_the_grace_is_aborted_and_named() {
    let root = Supervisor::new("root");
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    root.child("runner").spawn(Kind::WORKER, "stuck", move |_| {
        let held = Arc::clone(&held);
        async move {
            std::future::pending::<()>().await;
            drop(held);
        }
    });
    let late = soon(root.shutdown(Duration::from_millis(10))).await;
    assert_eq!(late, ["root/runner/stuck"]);
    assert_eq!(
        Arc::strong_count(&guard),
        1,
        "the task let go of everything"
    );
}

#[tokio::test]
async fn an_ended_supervisor_starts_nothing() {
    let root = Supervisor::new("root");
    soon(root.shutdown(PATIENCE)).await;
    for supervisor in [root.clone(), root.child("late")] {
        supervisor.spawn(Kind::WORKER, "late", |_| async {});
    }
    assert!(root.nodes().running.is_empty());
}

#[tokio::test]
async fn a_mutation_goes_on_when_its_caller_leaves_and_shutdown_waits_for_it() {
    let root = Supervisor::new("root");
    let gate = Arc::new(Notify::new());
    let done = Arc::new(AtomicU32::new(0));
    let mutation = {
        let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
        root.run_to_end(async move {
            gate.notified().await;
            done.store(1, Ordering::SeqCst);
        })
    };
    drop(mutation);
    let (late, ()) = soon(async {
        tokio::join!(root.shutdown(PATIENCE), async {
            root.shutdown_signal().wait().await;
            gate.notify_one();
        })
    })
    .await;
    assert!(late.is_empty());
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_answer_or_panic_of_a_mutation_reaches_its_caller() {
    let root = Supervisor::new("root");
    assert_eq!(soon(root.run_to_end(async { 7 })).await, 7);
    let failing = root.run_to_end(async { panic!("boom") });
    let caught: Result<(), _> = soon(CatchPanic::new(Box::pin(failing))).await;
    assert_eq!(caught, Err(Panicked("boom".to_owned())));
}

#[tokio::test]
async fn scoped_work_ends_with_its_owner() {
    let root = Supervisor::new("root");
    let (sender, gone) = oneshot::channel::<()>();
    let scoped = root.scoped(async move {
        std::future::pending::<()>().await;
        drop(sender);
    });
    drop(scoped);
    assert!(soon(gone).await.is_err());
    assert_eq!(soon(root.scoped(async { 7 })).await, Ok(7));
}
