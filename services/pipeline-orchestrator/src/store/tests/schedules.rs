//! Schedules and backfills on both databases.

use ids::{BackfillId, ScheduleId};
use serde_json::{Map, json};

use super::super::schedules::{self, Readable};
use super::*;
use crate::domain::schedule::{
    Backfill, BackfillBody, BackfillState, Schedule, ScheduleBody, ScheduleSource, Timing,
    TriggerSpec, run_key,
};

fn schedule(name: &str, next_at: i64) -> Schedule {
    Schedule {
        id: ScheduleId::derived(name),
        experiment_id: ExperimentId::derived("e"),
        display_name: name.to_owned(),
        description: String::new(),
        enabled: true,
        source: ScheduleSource::Inline,
        spec_hash: Some(spec("{}").hash),
        created_at: micros(10),
        updated_at: micros(10),
        cursor: micros(10),
        next_at: Some(micros(next_at)).filter(|next| next.as_micros() > 0),
        blocked_until: None,
        runs: 0,
        version: 1,
        body: ScheduleBody {
            trigger: TriggerSpec {
                timing: Timing::Cron("@daily".to_owned()),
                start: None,
                end: Some(7),
                time_zone: "Europe/Berlin".to_owned(),
            },
            anchor: 10,
            parameters: json!({"a": [1, "x"]}).as_object().unwrap().clone(),
            pipeline_root: "/data".to_owned(),
            service_account: String::new(),
            max_concurrency: 2,
            catch_up: true,
            problem: None,
        },
    }
}

async fn add(db: &Db, schedule: &Schedule) {
    let schedule = schedule.clone();
    write(db, move |conn| {
        Box::pin(async move {
            specs::keep(conn, &spec("{}")).await?;
            schedules::insert(conn, &schedule).await
        })
    })
    .await;
}

async fn due(db: &Db, now: i64, after: (i64, &str)) -> Vec<String> {
    let place = (after.0, after.1.to_owned());
    let read = db.read(move |conn| {
        Box::pin(async move { schedules::due(conn, micros(now), place, 2).await })
    });
    let found: Result<Vec<Readable<Schedule>>, Error> = read.await;
    let found = found.unwrap().into_iter().map(readable);
    found.map(|schedule| schedule.display_name).collect()
}

fn readable<T>(row: Readable<T>) -> T {
    match row {
        Readable::Yes(found) => found,
        Readable::No(id, _, error) => panic!("{id}: {error}"),
    }
}

#[tokio::test]
async fn a_schedule_is_read_as_it_was_written_and_only_the_version_that_was_seen_is_replaced() {
    for opened in both().await {
        let db = &opened.db;
        let mut one = schedule("one", 20);
        add(db, &one).await;
        let read = db.read(|conn| {
            Box::pin(async move { schedules::get_listed(conn, ScheduleId::derived("one")).await })
        });
        let read: Result<_, Error> = read.await;
        assert_eq!(read.unwrap(), Some((one.clone(), Some("{}".to_owned()))));
        one.source = ScheduleSource::Latest(PipelineId::derived("p"));
        one.spec_hash = None;
        one.next_at = None;
        for expected in [true, false] {
            let seen = one.clone();
            let changed = write(db, move |conn| {
                Box::pin(async move { schedules::update(conn, &seen).await })
            });
            assert_eq!(changed.await, expected);
        }
        let read = db.read(|conn| {
            Box::pin(async move { schedules::get(conn, ScheduleId::derived("one")).await })
        });
        let read: Result<Option<Schedule>, Error> = read.await;
        one.version = 2;
        assert_eq!(read.unwrap(), Some(one));
    }
}

#[tokio::test]
async fn what_is_due_comes_in_the_order_of_its_slots() {
    for opened in both().await {
        let db = &opened.db;
        let mut off = schedule("off", 5);
        off.enabled = false;
        let mut blocked = schedule("blocked", 6);
        blocked.blocked_until = Some(micros(100_000));
        let mut from_the_future = schedule("from the future", 7);
        from_the_future.blocked_until = Some(micros(i64::MAX / 2));
        let later = [
            schedule("late", 30),
            schedule("none", 0),
            schedule("early", 20),
            schedule("future", 500),
        ];
        for one in later.iter().chain([&off, &blocked, &from_the_future]) {
            add(db, one).await;
        }
        assert_eq!(due(db, 100, (0, "")).await, ["from the future", "early"]);
        let id = ScheduleId::derived("early").to_string();
        assert_eq!(due(db, 100, (20, &id)).await, ["late"]);
        let next =
            db.read(|conn| Box::pin(async move { schedules::next_due(conn, micros(100)).await }));
        let next: Result<_, Error> = next.await;
        assert_eq!(next.unwrap(), Some(micros(500)));
        assert_eq!(due(db, 100_000, (6, "")).await[0], "blocked");
    }
}

#[tokio::test]
async fn runs_of_a_schedule_are_counted_apart_from_those_of_its_backfills() {
    for opened in both().await {
        let db = &opened.db;
        let one = schedule("one", 20);
        add(db, &one).await;
        let backfill = Backfill {
            id: BackfillId::derived("b"),
            schedule_id: one.id,
            state: BackfillState::Active,
            created_at: micros(50),
            next: 0,
            skipped: 0,
            blocked_until: None,
            body: BackfillBody {
                slots: vec![1, 2],
                grid: [("x".to_owned(), vec![json!(1)])].into(),
                max_concurrency: 3,
                again: true,
                problem: None,
            },
        };
        let mut record = run("r", 5, one.experiment_id);
        record.recurring_run_id = one.id.to_string();
        let mut other = record.clone();
        record.run.id = run_key(one.id, Some(micros(1)), &Map::new(), None);
        other.run.id = run_key(one.id, Some(micros(2)), &Map::new(), None);
        let ids = (record.run.id, other.run.id);
        insert(db, record).await;
        insert(db, other).await;
        let (id, stored) = (one.id, backfill.clone());
        let counts = write(db, move |conn| {
            Box::pin(async move {
                schedules::insert_backfill(conn, &stored).await?;
                schedules::add_run(conn, stored.id, ids.1).await?;
                let known = schedules::run_exists(conn, ids.0).await?;
                let unknown = schedules::run_exists(conn, RunId::derived("none")).await?;
                let active = schedules::active_runs(conn, id).await?;
                let filled = schedules::active_of_backfill(conn, stored.id).await?;
                Ok((known, unknown, active, filled))
            })
        });
        assert_eq!(counts.await, (true, false, 1, 1));
        let read = db.read(move |conn| {
            Box::pin(async move {
                let active = schedules::active_backfills(conn, micros(60), "", 5).await?;
                let active: Vec<_> = active.into_iter().map(readable).collect();
                let of = schedules::backfills_of(conn, id, (i64::MAX, String::new()), 5).await?;
                Ok::<_, Error>((active, of, schedules::count_backfills(conn, id).await?))
            })
        });
        let expected = (vec![backfill.clone()], (vec![backfill.clone()], false), 1);
        assert_eq!(read.await.unwrap(), expected);
        // The schedule goes with its backfills; the runs and what they execute stay.
        let rest = write(db, move |conn| {
            Box::pin(async move {
                assert!(schedules::delete(conn, id).await?);
                assert!(!schedules::delete(conn, id).await?);
                let gone = schedules::get_backfill(conn, BackfillId::derived("b")).await?;
                let spec = specs::get(conn, &spec("{}").hash).await?;
                Ok((gone, spec, schedules::run_exists(conn, ids.0).await?))
            })
        });
        assert_eq!(rest.await, (None, Some("{}".to_owned()), true));
    }
}

#[tokio::test]
async fn a_specification_stays_while_a_schedule_holds_it() {
    for opened in both().await {
        let db = &opened.db;
        let one = schedule("one", 20);
        add(db, &one).await;
        let kept = write(db, move |conn| {
            Box::pin(async move {
                specs::forget(conn, &spec("{}").hash).await?;
                let held = specs::get(conn, &spec("{}").hash).await?;
                schedules::disable_of(conn, one.experiment_id).await?;
                let disabled = schedules::get(conn, one.id).await?.unwrap();
                schedules::delete(conn, one.id).await?;
                Ok((
                    held,
                    disabled.enabled,
                    specs::get(conn, &spec("{}").hash).await?,
                ))
            })
        });
        assert_eq!(kept.await, (Some("{}".to_owned()), false, None));
    }
}
