//! Every service as a process of its own, on either database: the same journey, and the same promise.

use api_pipelines::v1::State;
use flumina_integration_tests::{Fleet, LIMIT, Part, Stores, Verdict};
use tonic::Code;

use crate::service_deaths::diamond;
use crate::stop_deaths::stuck;

#[tokio::test]
async fn the_journey_works_with_processes_on_postgres() {
    journey(Stores::Postgres).await;
}

#[tokio::test]
async fn the_journey_works_with_processes_on_sqlite() {
    journey(Stores::Sqlite).await;
}

async fn journey(stores: Stores) {
    let fleet = Fleet::started(stores).await;
    let witness = fleet.witness();
    let client = fleet.client();
    let run = client.submit(&diamond(&witness), "key").await;
    assert_eq!(client.submit(&diamond(&witness), "key").await, run);
    let verdict = Verdict::of(&client, &run, &witness).await;
    verdict.assert_promise();
    verdict.assert_succeeded();
    verdict.assert_nothing_lost();
    let first = verdict.task("first").output_parameters.clone().unwrap();
    assert_eq!(
        format!("{:?}", first.fields["number"].kind),
        "Some(StringValue(\"42\"))"
    );
    let artifacts = client.artifacts_of(&run).await;
    assert_eq!(artifacts.len(), 1);
    assert_eq!((artifacts[0].size_bytes, artifacts[0].present), (1, true));

    let canceled = client
        .submit(&stuck(&witness, &fleet.path("gate")), "canceled")
        .await;
    witness.wait_for("start", "one").await;
    client.terminate(&canceled).await.unwrap();
    assert_eq!(client.wait_end(&canceled).await.state(), State::Canceled);
    fleet.wait_quiet().await;

    for run in [&run, &canceled] {
        client.delete(run, false).await.unwrap();
        assert_eq!(client.run(run).await.unwrap_err().code(), Code::NotFound);
    }
    testkit::eventually("the artifact is gone", LIMIT, || async {
        if std::path::Path::new(&artifacts[0].uri).exists() {
            Err(())
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test]
async fn no_step_is_lost_or_repeated_when_processes_on_postgres_die() {
    deaths(Stores::Postgres).await;
}

#[tokio::test]
async fn no_step_is_lost_or_repeated_when_processes_on_sqlite_die() {
    deaths(Stores::Sqlite).await;
}

async fn deaths(stores: Stores) {
    let mut fleet = Fleet::started(stores).await;
    let witness = fleet.witness();
    for part in Part::ALL {
        let key = format!("{part:?}");
        let run = fleet.client().submit(&diamond(&witness), &key).await;
        testkit::eventually("the first step has started", LIMIT, || async {
            if witness.of_run(&run).is_empty() {
                Err(())
            } else {
                Ok(())
            }
        })
        .await;
        fleet.kill(part);
        fleet.start(part, &[]).await;
        let verdict = Verdict::of(&fleet.client(), &run, &witness).await;
        verdict.assert_promise();
        verdict.assert_succeeded();
        verdict.assert_nothing_lost();
    }
    fleet.wait_quiet().await;
}
