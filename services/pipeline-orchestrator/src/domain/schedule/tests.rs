//! Slots against a model that looks at every second.

use clock::Timestamp;
use jiff::tz::AmbiguousOffset;
use proptest::prelude::*;
use serde_json::json;

use super::cron::{Cron, Expression};
use super::zone::Zone;
use super::*;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kolkata",
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn spec(cron: &str) -> TriggerSpec {
    TriggerSpec {
        timing: Timing::Cron(cron.to_owned()),
        start: None,
        end: None,
        time_zone: String::new(),
    }
}

fn interval(seconds: i64) -> TriggerSpec {
    TriggerSpec {
        timing: Timing::Interval(seconds),
        ..spec("")
    }
}

fn parsed(spec: &TriggerSpec, anchor: Timestamp) -> Result<Trigger, Vec<String>> {
    let mut faults = Violations::new();
    let trigger = spec.parse("trigger", anchor, "UTC", &mut faults);
    let faults = faults.into_vec().into_iter();
    let faults: Vec<String> = faults
        .map(|fault| format!("{}: {}", fault.field, fault.message))
        .collect();
    trigger.ok_or(faults)
}

fn slots(cron: &str, from: &str, count: usize) -> Vec<String> {
    let from = at(from);
    let trigger = parsed(&spec(cron), from).unwrap();
    let due = trigger.due(from, Timestamp::from_secs(253_000_000_000), true, count);
    due.slots.iter().map(Timestamp::to_string).collect()
}

#[test]
fn expressions_are_read_as_upstream_reads_them() {
    let from = "2026-01-30T12:00:00Z";
    let expected: &[(&str, &str)] = &[
        ("*/10 * * * * *", "2026-01-30T12:00:10Z"),
        // Five fields: seconds first.
        ("*/10 * * * *", "2026-01-30T12:00:10Z"),
        ("0 3 * * *", "2026-01-30T12:03:00Z"),
        ("0 0 3 * * ?", "2026-01-31T03:00:00Z"),
        ("5/20 * * * * *", "2026-01-30T12:00:05Z"),
        ("0 0 0 31 * *", "2026-01-31T00:00:00Z"),
        ("0 0 0 * FEB mon-fri", "2026-02-02T00:00:00Z"),
        // Both are restricted: one is enough.
        ("0 0 0 13 * fri", "2026-02-06T00:00:00Z"),
        ("0 0 0 29 2 ?", "2028-02-29T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-02-01T00:00:00Z"),
        ("@weekly", "2026-02-01T00:00:00Z"),
        ("@daily", "2026-01-31T00:00:00Z"),
        ("@hourly", "2026-01-30T13:00:00Z"),
        ("@every 1h30m10s", "2026-01-30T13:30:10Z"),
        ("@every 1.5h", "2026-01-30T13:30:00Z"),
        ("@every 10ms", "2026-01-30T12:00:01Z"),
        ("CRON_TZ=Asia/Kolkata 0 0 0 * * *", "2026-01-30T18:30:00Z"),
        ("TZ=America/New_York @daily", "2026-01-31T05:00:00Z"),
    ];
    for (cron, first) in expected {
        assert_eq!(slots(cron, from, 1), [*first], "{cron}");
    }
}

#[test]
fn what_is_no_expression_is_refused_by_its_field() {
    let wrong = [
        ("", "must be given"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("60 * * * * *", "seconds"),
        ("* * 24 * * *", "hours"),
        ("* * * 0 * *", "day of the month"),
        ("* * * * 13 *", "month"),
        (
            "* * * * * 7",
            "day of the week: it takes 0 to 6 or SUN to SAT",
        ),
        ("* * * * * fryday", "fryday"),
        ("*/0 * * * * *", "a step"),
        ("5-1 * * * * *", "ends before it begins"),
        ("* * * L * *", "\"L\""),
        ("30 8 31 12 *", "\"0 30 8 31 12 *\""),
        ("99 * * * *", "write \"0 99 * * * *\""),
        ("@fortnightly", "@every"),
        ("@every", "is not one of"),
        ("@every soon", "duration"),
        ("@every 1000000h", "hundred years"),
        ("CRON_TZ=Mars/Olympus * * * * * *", "is not a time zone"),
        ("CRON_TZ=UTC", "must be given"),
    ];
    for (cron, part) in wrong {
        // Eight o'clock on a day that is no minute: the reading with seconds first has no hour 31.
        let faults = parsed(&spec(cron), at("2026-01-01T00:00:00Z")).unwrap_err();
        assert!(faults[0].contains(part), "{cron}: {faults:?}");
    }
    let long = format!("{}*", "1,".repeat(MAX_CRON));
    assert!(parsed(&spec(&long), Timestamp::EPOCH).unwrap_err()[0].contains("longer"));
    for seconds in [0, -5, i64::MAX] {
        assert!(parsed(&interval(seconds), Timestamp::EPOCH).is_err());
    }
}

#[test]
fn five_fields_are_warned_about() {
    assert!(spec("CRON_TZ=UTC 0 3 * * *").notes()[0].contains("write \"0 0 3 * * *\""));
    assert!(spec("0 0 3 * * *").notes().is_empty());
    assert!(spec("@daily").notes().is_empty());
}

#[test]
fn what_never_fires_is_named() {
    let anchor = at("2026-01-01T00:00:00Z");
    let never = |spec: &TriggerSpec| {
        let trigger = parsed(spec, anchor).unwrap();
        assert_eq!(trigger.next_after(anchor), None);
        spec.never(&trigger)
    };
    let (field, message) = never(&spec("0 0 0 30 2 *"));
    assert_eq!(field, "cron_schedule.cron");
    assert!(message.contains("0 0 0 30 2 *\" never fires"), "{message}");
    let early = TriggerSpec {
        end: Some(at("2026-01-01T00:30:00Z").as_micros()),
        ..spec("@hourly")
    };
    let (field, message) = never(&early);
    assert_eq!(field, "end_time");
    assert!(message.contains("2026-01-01T01:00:00Z"), "{message}");
    let backwards = TriggerSpec {
        start: Some(at("2026-02-01T00:00:00Z").as_micros()),
        ..early
    };
    assert!(parsed(&backwards, anchor).unwrap_err()[0].starts_with("trigger.end_time"));
}

#[test]
fn a_daily_time_in_a_gap_comes_after_it_and_one_that_comes_twice_comes_once() {
    let berlin = |cron: &str| format!("CRON_TZ=Europe/Berlin {cron}");
    let around = |cron: &str, from: &str| slots(&berlin(cron), from, 3);
    // 2026-03-29: 02:00 to 03:00 does not exist.
    let spring = [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
    ];
    assert_eq!(around("0 30 2 * * *", "2026-03-28T00:00:00Z"), spring);
    // Several times in the gap are one slot.
    let several = [
        "2026-03-28T01:45:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:15:00Z",
    ];
    assert_eq!(around("0 15,45 2 * * *", "2026-03-28T01:20:00Z"), several);
    // 2026-10-25: 02:00 to 03:00 comes twice.
    let autumn = [
        "2026-10-24T00:30:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-26T01:30:00Z",
    ];
    assert_eq!(around("0 30 2 * * *", "2026-10-24T00:00:00Z"), autumn);
    // Every hour follows the time that passes.
    let hourly = [
        "2026-03-29T00:30:00Z",
        "2026-03-29T01:30:00Z",
        "2026-03-29T02:30:00Z",
    ];
    assert_eq!(around("0 30 * * * *", "2026-03-29T00:00:00Z"), hourly);
    let hourly = [
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:30:00Z",
    ];
    assert_eq!(around("0 30 * * * *", "2026-10-25T00:00:00Z"), hourly);
}

#[test]
fn late_slots_are_made_one_by_one_or_only_the_newest() {
    let start = at("2026-01-01T00:00:00Z");
    let now = at("2026-01-01T10:30:00Z");
    let trigger = parsed(&spec("@hourly"), start).unwrap();
    let due = trigger.due(start, now, true, 3);
    let hours: Vec<i64> = due
        .slots
        .iter()
        .map(|slot| (slot.as_secs() - start.as_secs()) / 3600)
        .collect();
    assert_eq!(hours, [1, 2, 3]);
    assert_eq!(due.next, Some(at("2026-01-01T04:00:00Z")));
    let newest = trigger.due(start, now, false, 3);
    assert_eq!(newest.slots, [at("2026-01-01T10:00:00Z")]);
    assert_eq!(newest.next, Some(at("2026-01-01T11:00:00Z")));
    let full = trigger.due(start, now, false, 0);
    assert_eq!((full.slots.len(), full.cursor), (0, start));
    // A clock that was set back: nothing until it has passed the cursor.
    let back = trigger.due(newest.cursor, start, true, 3);
    assert_eq!((back.slots.len(), back.cursor), (0, newest.cursor));
}

#[test]
fn backfills_reach_back_beyond_the_start_on_the_same_grid() {
    let trigger = parsed(&interval(3600), at("2026-01-01T00:30:00Z")).unwrap();
    let found = trigger.between(at("2025-12-31T22:30:00Z"), at("2026-01-01T02:30:00Z"), 10);
    let found: Vec<String> = found.iter().map(Timestamp::to_string).collect();
    let expected = [
        "2025-12-31T22:30:00Z",
        "2025-12-31T23:30:00Z",
        "2026-01-01T00:30:00Z",
        "2026-01-01T01:30:00Z",
    ];
    assert_eq!(found, expected);
    let daily = parsed(&spec("@daily"), at("2026-06-01T00:00:00Z")).unwrap();
    let found = daily.between(at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:00Z"), 10);
    assert_eq!(
        found,
        [at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z")]
    );
    assert_eq!(
        daily
            .between(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"), 5)
            .len(),
        5
    );
}

#[test]
fn runs_of_the_same_slot_and_parameters_have_the_same_id() {
    let schedule = ids::ScheduleId::derived("s");
    let slot = Some(Timestamp::from_secs(60));
    let chosen = |value: i64| json!({"b": 1, "a": value}).as_object().unwrap().clone();
    let none = serde_json::Map::new();
    let plain = run_key(schedule, slot, &none, None);
    assert_eq!(plain, run_key(schedule, slot, &none, None));
    let others = [
        run_key(schedule, None, &none, None),
        run_key(schedule, slot, &chosen(1), None),
        run_key(schedule, slot, &chosen(2), None),
        run_key(schedule, slot, &none, Some(ids::BackfillId::derived("b"))),
        run_key(ids::ScheduleId::derived("t"), slot, &none, None),
    ];
    let distinct: std::collections::BTreeSet<_> = others.iter().collect();
    assert_eq!(distinct.len(), others.len());
    assert!(!others.contains(&plain));
}

#[test]
fn a_grid_is_every_combination_for_every_slot() {
    let body = BackfillBody {
        slots: vec![1, 2],
        grid: [
            ("lr".to_owned(), vec![json!(0.1), json!(0.2)]),
            ("n".to_owned(), vec![json!(1), json!(2), json!(3)]),
        ]
        .into(),
        max_concurrency: 1,
        again: false,
        problem: None,
    };
    assert_eq!(body.total(), 12);
    let all: std::collections::BTreeSet<String> = (0..12)
        .map(|index| format!("{:?}", body.item(index)))
        .collect();
    assert_eq!(all.len(), 12);
    assert_eq!(body.item(0).0, Some(Timestamp::from_micros(1)));
    assert_eq!(
        body.item(1).1,
        *json!({"lr": 0.1, "n": 2}).as_object().unwrap()
    );
    assert_eq!(body.item(11).0, Some(Timestamp::from_micros(2)));
}

/// Every slot in a range, by looking at every second: of passing time, or of the time of day.
fn model(cron: &Cron, zone: &Zone, from: i64, to: i64) -> Vec<i64> {
    let zone = zone.zone();
    let fits = |at: jiff::civil::DateTime| cron.fits(at.date()) && cron.fits_time(at.time());
    let stamp = |second: i64| jiff::Timestamp::from_second(second).unwrap();
    if cron.every_hour() {
        let passing = |second: &i64| fits(zone.to_datetime(stamp(*second)));
        return (from + 1..=to).filter(passing).collect();
    }
    let mut found = std::collections::BTreeSet::new();
    // Times of day, a day more at either end.
    for second in from - 86_400..=to + 86_400 {
        let civil = TimeZone::UTC.to_datetime(stamp(second));
        if !fits(civil) {
            continue;
        }
        let when = match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                offset.to_timestamp(civil).unwrap().as_second()
            }
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).unwrap().as_second(),
            AmbiguousOffset::Gap { before, after } => {
                // The first second at which the later offset holds.
                let early = after.to_timestamp(civil).unwrap().as_second();
                let late = before.to_timestamp(civil).unwrap().as_second();
                (early..=late)
                    .find(|second| zone.to_offset(stamp(*second)) == after)
                    .unwrap()
            }
        };
        if (from + 1..=to).contains(&when) {
            found.insert(when);
        }
    }
    found.into_iter().collect()
}

fn field_text(first: u32, last: u32) -> impl Strategy<Value = String> {
    let number = first..=last;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        2 => number.clone().prop_map(|a| a.to_string()),
        1 => (number.clone(), number.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (2_u32..20).prop_map(|step| format!("*/{step}")),
        1 => (number.clone(), 1_u32..9).prop_map(|(a, step)| format!("{a}/{step}")),
        1 => (number.clone(), number).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let fields = (
        // Few seconds and minutes, so that a range has few slots.
        0_u32..60,
        field_text(0, 59),
        field_text(0, 23),
        field_text(1, 31),
        field_text(1, 12),
        field_text(0, 6),
    );
    fields.prop_map(|(s, m, h, d, mo, w)| format!("{s} {m} {h} {d} {mo} {w}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_those_of_the_model(
        text in expression(),
        zone in prop::sample::select(ZONES),
        // Around changes of offset in 2026 and 2017, and anywhere.
        from in prop_oneof![
            (1_774_656_000_i64..1_774_850_000),
            (1_792_800_000_i64..1_793_000_000),
            (1_508_000_000_i64..1_508_100_000),
            (1_500_000_000_i64..1_800_000_000),
        ],
    ) {
        let to = from + 40 * 3600;
        let Ok(Expression::Fields(cron)) = cron::parse(&text) else {
            panic!("{text}");
        };
        let zone = Zone::named(zone).unwrap();
        let expected = model(&cron, &zone, from, to);
        let anchor = Timestamp::from_secs(from);
        let trigger = Trigger { rule: Rule::Cron(cron, zone), anchor, end: None };
        let until = Timestamp::from_secs(to);
        let due = trigger.due(anchor, until, true, usize::MAX);
        let found: Vec<i64> = due.slots.iter().map(|slot| slot.as_secs()).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(trigger.newest(anchor, until), due.slots.last().copied());
        prop_assert!(due.next.is_none_or(|next| next > until));
        prop_assert_eq!(trigger.between(anchor.plus(std::time::Duration::from_micros(1)), until.plus(std::time::Duration::from_micros(1)), usize::MAX), due.slots);
    }

    /// However the clock goes, however often it is asked and however many runs fit: with catch-up the slots made are
    /// all slots up to the latest time, each once and in order; without it, some of them, never one twice.
    #[test]
    fn no_slot_is_missed_or_repeated(
        seconds in 1_i64..500,
        steps in prop::collection::vec((-2_000_i64..4_000, 0_usize..4), 1..40),
        catch_up in any::<bool>(),
    ) {
        let anchor = Timestamp::from_secs(1_700_000_000);
        let trigger = parsed(&interval(seconds), anchor).unwrap();
        let (mut now, mut latest, mut cursor) = (1_700_000_000_i64, 1_700_000_000_i64, anchor);
        let mut made = Vec::new();
        for (step, room) in steps {
            now += step;
            latest = latest.max(now);
            let due = trigger.due(cursor, Timestamp::from_secs(now), catch_up, room);
            prop_assert!(due.slots.len() <= room);
            made.extend(due.slots.iter().map(|slot| slot.as_secs()));
            cursor = due.cursor;
        }
        if catch_up {
            let rest = trigger.due(cursor, Timestamp::from_secs(latest), true, usize::MAX);
            made.extend(rest.slots.iter().map(|slot| slot.as_secs()));
            let all: Vec<i64> = (1..).map(|n| 1_700_000_000 + n * seconds).take_while(|slot| *slot <= latest).collect();
            prop_assert_eq!(made, all);
        } else {
            prop_assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(made.iter().all(|slot| *slot <= latest && (slot - 1_700_000_000) % seconds == 0));
        }
    }
}
