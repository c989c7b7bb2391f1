use proptest::prelude::*;

use super::*;

fn ask(number: usize, namespace: &str, cpu_milli: u64) -> Ask {
    Ask {
        id: format!("w{number}").parse().unwrap(),
        namespace: namespace.to_owned(),
        amount: Amount {
            cpu_milli,
            ..Amount::default()
        },
        gang: None,
    }
}

fn cores(count: u64) -> Scheduler {
    node(count, &[])
}

fn node(count: u64, devices: &[&str]) -> Scheduler {
    let pool = Pool {
        kind: "gpu".to_owned(),
        ids: devices.iter().map(|&id| id.to_owned()).collect(),
    };
    let capacity = Amount {
        cpu_milli: count * 1000,
        memory: 1 << 30,
        ..Amount::default()
    };
    Scheduler::new(capacity, vec![pool])
}

fn with_devices(number: usize, count: u32) -> Ask {
    let mut ask = ask(number, "a", 1000);
    ask.amount.slots[0] = count;
    ask
}

#[test]
fn devices_are_held_by_one_at_a_time_and_others_wait_for_them() {
    let mut scheduler = node(8, &["0", "1", "2"]);
    assert!(scheduler.admit_now(&with_devices(0, 2)));
    assert!(!scheduler.admit_now(&with_devices(1, 2)));
    scheduler.push(with_devices(1, 2));
    assert_eq!(ids(&scheduler.admit()), [] as [&str; 0]);
    let waiting = "w1".parse().unwrap();
    assert_eq!(
        scheduler.position("a", &waiting),
        Some((1, Why::Accelerator))
    );
    let has = |scheduler: &Scheduler, number: usize| {
        let id = format!("w{number}").parse().unwrap();
        let devices = scheduler.devices(&id).iter();
        devices.map(|device| device.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(has(&scheduler, 0), ["0", "1"]);
    // Those that want none of what it waits for do not wait behind it; those that do, do.
    scheduler.push(with_devices(2, 1));
    scheduler.push(ask(3, "a", 1000));
    assert_eq!(ids(&scheduler.admit()), ["w3"]);
    scheduler.release(&"w0".parse().unwrap());
    assert_eq!(ids(&scheduler.admit()), ["w1", "w2"]);
    assert_eq!(has(&scheduler, 1), ["0", "1"]);
    assert_eq!(has(&scheduler, 2), ["2"]);

    // After a restart: what runs keeps its devices, whatever it would get now.
    let mut again = node(8, &["0", "1", "2"]);
    let kept = [
        Device::parse("gpu 1").unwrap(),
        Device::parse("gpu 9").unwrap(),
    ];
    again.hold_again(&with_devices(5, 2), &kept);
    assert!(again.admit_now(&with_devices(6, 2)));
    assert_eq!(has(&again, 6), ["0", "2"]);
    assert!(!again.admit_now(&with_devices(7, 1)));
}

fn ids(asks: &[Ask]) -> Vec<&str> {
    asks.iter().map(|ask| ask.id.as_str()).collect()
}

#[test]
fn namespaces_take_turns() {
    let mut scheduler = cores(1);
    for number in 0..3 {
        scheduler.push(ask(number, "a", 1000));
    }
    scheduler.push(ask(10, "b", 1000));
    let mut order = Vec::new();
    loop {
        let admitted = scheduler.admit();
        let Some(first) = admitted.first() else { break };
        order.push(first.id.to_string());
        scheduler.release(&first.id);
    }
    assert_eq!(order, ["w0", "w10", "w1", "w2"]);
}

#[test]
fn positions_count_turns_and_say_why() {
    let mut scheduler = cores(1);
    assert!(scheduler.admit_now(&ask(0, "a", 1000)));
    for (number, namespace) in [(1, "a"), (2, "a"), (3, "b")] {
        scheduler.push(ask(number, namespace, 1000));
    }
    let place = |number: usize, namespace| {
        let id = format!("w{number}").parse().unwrap();
        scheduler.position(namespace, &id)
    };
    assert_eq!(place(1, "a"), Some((1, Why::Cpu)));
    assert_eq!(place(3, "b"), Some((2, Why::Cpu)));
    assert_eq!(place(2, "a"), Some((3, Why::Cpu)));
    let line: Vec<_> = scheduler
        .line(9)
        .into_iter()
        .map(|(id, ..)| id.to_string())
        .collect();
    assert_eq!(line, ["w1", "w3", "w2"]);
}

#[test]
fn a_large_one_is_passed_but_not_for_ever() {
    let mut scheduler = cores(2);
    assert!(scheduler.admit_now(&ask(0, "small", 1000)));
    scheduler.push(ask(1, "large", 2000));
    let mut running = "w0".parse().unwrap();
    for number in 2..1000 {
        scheduler.push(ask(number, "small", 1000));
        let admitted = scheduler.admit();
        if ids(&admitted).contains(&"w1") {
            return;
        }
        scheduler.release(&running);
        if let Some(next) = admitted.first() {
            running = next.id.clone();
        }
        if ids(&scheduler.admit()).contains(&"w1") {
            return;
        }
    }
    panic!("it never started");
}

#[test]
fn a_gang_starts_as_a_whole() {
    let mut scheduler = cores(2);
    let member = |number| Ask {
        gang: Some(Gang {
            name: "g".to_owned(),
            minimum: 2,
        }),
        ..ask(number, "a", 1000)
    };
    scheduler.push(member(0));
    scheduler.push(ask(1, "a", 1000));
    assert_eq!(
        ids(&scheduler.admit()),
        ["w1"],
        "an incomplete gang does not block"
    );
    scheduler.push(member(2));
    assert_eq!(ids(&scheduler.admit()), [] as [&str; 0]);
    scheduler.release(&"w1".parse().unwrap());
    assert_eq!(ids(&scheduler.admit()), ["w0", "w2"]);
}

fn member(number: usize, name: &str, minimum: u32) -> Ask {
    Ask {
        gang: Some(Gang {
            name: name.to_owned(),
            minimum,
        }),
        ..ask(number, "a", 1000)
    }
}

#[test]
fn many_members_of_gangs_are_looked_at_once_each() {
    // Squared, these are too many to wait for.
    const MANY: usize = 100_000;
    let mut scheduler = cores(2);
    for number in 0..MANY {
        scheduler.push(member(number, "incomplete", MANY as u32 + 1));
    }
    for number in MANY..2 * MANY {
        scheduler.push(member(number, &format!("{}", number / 2), 3));
    }
    for number in 2 * MANY..3 * MANY {
        scheduler.push(member(number, "large", 1000));
    }
    scheduler.push(ask(3 * MANY, "a", 1000));
    // The large one is the first in line that is complete; it is passed by nobody of its namespace, and never fits.
    assert_eq!(ids(&scheduler.admit()), [] as [&str; 0]);
    let impossible = scheduler.impossible();
    assert_eq!(impossible.len(), 1000);
    assert_eq!(impossible[0].id.as_str(), format!("w{}", 2 * MANY));
    assert_eq!(scheduler.line(2 * MANY).len(), 2 * MANY);
    assert!(
        scheduler
            .line(MANY)
            .iter()
            .all(|(.., why)| *why == Why::Gang)
    );
}

#[test]
fn a_gang_is_complete_again_after_members_went_and_came() {
    let mut scheduler = cores(2);
    for number in 0..2 {
        scheduler.push(member(number, "g", 2));
    }
    assert!(scheduler.remove("a", &"w0".parse().unwrap()));
    assert_eq!(ids(&scheduler.admit()), [] as [&str; 0]);
    scheduler.push(member(2, "g", 2));
    assert_eq!(ids(&scheduler.admit()), ["w1", "w2"]);
    // One joins those that run, and has to wait for others when they have ended.
    scheduler.release(&"w1".parse().unwrap());
    scheduler.push(member(3, "g", 2));
    assert_eq!(ids(&scheduler.admit()), ["w3"]);
    for id in ["w2", "w3"] {
        scheduler.release(&id.parse().unwrap());
    }
    scheduler.push(member(4, "g", 2));
    assert_eq!(ids(&scheduler.admit()), [] as [&str; 0]);
}

#[derive(Debug, Clone)]
enum Move {
    Push(u8, u64, Option<u8>),
    Finish(usize),
    Remove(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..4_u8, 1..=4000_u64, proptest::option::of(0..2_u8))
            .prop_map(|(namespace, cpu, gang)| Move::Push(namespace, cpu, gang)),
        (0..8_usize).prop_map(Move::Finish),
        (0..8_usize).prop_map(Move::Remove),
    ];
    proptest::collection::vec(one, 1..200)
}

proptest! {
    #[test]
    fn never_above_capacity_and_everything_ends(moves in moves()) {
        let mut scheduler = cores(4);
        let capacity = scheduler.capacity();
        let mut waiting: Vec<Ask> = Vec::new();
        let mut running: Vec<Ask> = Vec::new();
        for (number, step) in moves.into_iter().enumerate() {
            match step {
                Move::Push(namespace, cpu, gang) => {
                    let mut new = ask(number, &format!("n{namespace}"), cpu);
                    new.gang = gang.map(|gang| Gang { name: gang.to_string(), minimum: 2 });
                    waiting.push(new.clone());
                    scheduler.push(new);
                }
                Move::Finish(at) if at < running.len() => {
                    scheduler.release(&running.remove(at).id);
                }
                Move::Remove(at) if at < waiting.len() => {
                    let gone = waiting.remove(at);
                    prop_assert!(scheduler.remove(&gone.namespace, &gone.id));
                }
                Move::Finish(_) | Move::Remove(_) => {}
            }
            for ask in scheduler.admit() {
                waiting.retain(|other| other.id != ask.id);
                running.push(ask);
            }
            prop_assert!(scheduler.used().within(capacity));
            let sum: u64 = running.iter().map(|ask| ask.amount.cpu_milli).sum();
            prop_assert_eq!(sum, scheduler.used().cpu_milli);
            prop_assert_eq!(waiting.len(), scheduler.waiting());
        }
        // When nothing new comes, all that is not an incomplete or impossible gang gets its turn.
        for ask in scheduler.impossible() {
            scheduler.remove(&ask.namespace, &ask.id);
            waiting.retain(|other| other.id != ask.id);
        }
        for _ in 0..waiting.len() + running.len() + 1 {
            for ask in running.drain(..) {
                scheduler.release(&ask.id);
            }
            for ask in scheduler.admit() {
                waiting.retain(|other| other.id != ask.id);
                running.push(ask);
            }
            for ask in scheduler.impossible() {
                scheduler.remove(&ask.namespace, &ask.id);
                waiting.retain(|other| other.id != ask.id);
            }
        }
        prop_assert!(waiting.iter().all(|ask| ask.gang.is_some()), "{:?}", waiting);
    }
}
