//! What a clock that was wrong and a row that cannot be read do to schedules.

use std::time::Duration;

use clock::Timestamp;

use crate::recurring::{every, schedule, slots};
use crate::support::{START, importer, server, servers};

const HOUR: i64 = 3_600;
const DAY: u64 = 86_400;
/// A year.
const YEAR: u64 = 365 * DAY;

#[tokio::test]
async fn a_schedule_goes_on_from_now_when_the_clock_was_a_year_ahead_once() {
    for server in servers().await {
        let mut asked = schedule("load", &importer(), every(HOUR));
        asked.no_catchup = true;
        let id = server.schedule(asked).await.unwrap().recurring_run_id;
        server.pass(YEAR, &id).await;
        let far = i64::try_from(YEAR).unwrap();
        assert_eq!(slots(&server.wait_for_ends(&id, 1).await), [far]);
        server.hand.set(Timestamp::from_secs(START + HOUR + 60));
        server.enable(&id).await;
        // Its slots are counted from now on, on the grid that they had.
        server.wait_for_next(&id, 2 * HOUR).await;
        server.pass(3_600, &id).await;
        let made = slots(&server.wait_for_ends(&id, 2).await);
        assert_eq!(made, [2 * HOUR, far]);
    }
}

#[tokio::test]
async fn slots_that_were_made_before_their_time_are_not_made_again() {
    let server = server().await;
    let day = i64::try_from(DAY).unwrap();
    let id = server
        .schedule(schedule("load", &importer(), every(day)))
        .await
        .unwrap()
        .recurring_run_id;
    server.pass(3 * DAY + 5, &id).await;
    server.wait_for_ends(&id, 3).await;
    server.hand.set(Timestamp::from_secs(START + 60));
    server.enable(&id).await;
    server.wait_for_next(&id, day).await;
    for next in 2..=5 {
        server.pass(DAY, &id).await;
        server.wait_for_next(&id, next * day).await;
    }
    let made = slots(&server.wait_for_ends(&id, 4).await);
    assert_eq!(made, [day, 2 * day, 3 * day, 4 * day]);
}

#[tokio::test]
async fn a_clock_that_goes_back_a_little_makes_nothing_twice() {
    let server = server().await;
    let id = server
        .schedule(schedule("load", &importer(), every(600)))
        .await
        .unwrap()
        .recurring_run_id;
    server.pass(600, &id).await;
    server.wait_for_ends(&id, 1).await;
    server.hand.set(Timestamp::from_secs(START + 590));
    server.enable(&id).await;
    server.pass(20, &id).await;
    server.wait_for_next(&id, 1200).await;
    server.pass(590, &id).await;
    assert_eq!(slots(&server.wait_for_ends(&id, 2).await), [600, 1200]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_stop_the_others() {
    for server in servers().await {
        let mut ids = Vec::new();
        for name in ["one", "two", "three"] {
            let made = server.schedule(schedule(name, &importer(), every(HOUR)));
            ids.push(made.await.unwrap().recurring_run_id);
        }
        // Whichever is read first.
        ids.sort();
        let broken = server
            .database()
            .await
            .execute(
                "UPDATE schedules SET body = '{' WHERE id = $1",
                sql::args![&ids[0]],
            )
            .await
            .unwrap();
        assert_eq!(broken, 1);
        server.pass(3_600, &ids[1]).await;
        for id in &ids[1..] {
            assert_eq!(slots(&server.wait_for_ends(id, 1).await), [HOUR]);
        }
    }
}

#[tokio::test]
async fn a_schedule_that_was_set_while_the_clock_was_ahead_starts_now() {
    let server = server().await;
    server.hand.advance(Duration::from_secs(YEAR));
    let id = server
        .schedule(schedule("load", &importer(), every(HOUR)))
        .await
        .unwrap()
        .recurring_run_id;
    server.hand.set(Timestamp::from_secs(START));
    server.enable(&id).await;
    server.wait_for_next(&id, HOUR).await;
    server.pass(3_600, &id).await;
    assert_eq!(slots(&server.wait_for_ends(&id, 1).await), [HOUR]);
}

#[tokio::test]
async fn a_start_in_the_future_is_waited_for() {
    let server = server().await;
    let mut trigger = every(HOUR);
    if let Some(api_kfp::v2beta1::trigger::Trigger::PeriodicSchedule(periodic)) =
        &mut trigger.trigger
    {
        periodic.start_time = Some(prost_types::Timestamp {
            seconds: START + 48 * HOUR,
            nanos: 0,
        });
    }
    let asked = schedule("load", &importer(), trigger);
    let id = server.schedule(asked).await.unwrap().recurring_run_id;
    server.pass(5 * 3_600, &id).await;
    server.wait_for_next(&id, 49 * HOUR).await;
    server.pass(44 * 3_600, &id).await;
    assert_eq!(slots(&server.wait_for_ends(&id, 1).await), [49 * HOUR]);
}
