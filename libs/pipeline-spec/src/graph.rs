//! Orders and circles.

use std::collections::{BTreeMap, BTreeSet};

/// Circles that are looked for: each costs a walk over the names, and the first ones show what is wrong.
const MAX_CIRCLES: usize = 32;

/// The names in an order where each stands after all that it depends on, and one circle for each group of names that
/// wait for each other (`[a, b]`: a waits for b, b for a), up to [`MAX_CIRCLES`]. With a circle, the order is of no use.
pub(crate) struct Order<'a> {
    pub(crate) names: Vec<&'a str>,
    pub(crate) circles: Vec<Vec<&'a str>>,
}

/// Sorts `nodes` (name → names that come first). Names that are not nodes are ignored. Among those that could come
/// next, the alphabetically first comes, so that equal documents give equal plans.
pub(crate) fn order<'a>(nodes: &BTreeMap<&'a str, Vec<&'a str>>) -> Order<'a> {
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    let mut followers: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
    for (&name, before) in nodes {
        let before: BTreeSet<&str> = known(nodes, before).collect();
        waiting.insert(name, before.len());
        for first in before {
            followers.entry(first).or_default().push(name);
        }
    }
    let mut ready: BTreeSet<&'a str> = nodes
        .keys()
        .copied()
        .filter(|name| waiting.get(name) == Some(&0))
        .collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut result = Order {
        names: Vec::with_capacity(nodes.len()),
        circles: Vec::new(),
    };
    loop {
        while let Some(name) = ready.pop_first() {
            done.insert(name);
            result.names.push(name);
            release(name, &followers, &mut waiting, &done, &mut ready);
        }
        let Some(&stuck) = nodes.keys().find(|name| !done.contains(*name)) else {
            return result;
        };
        if result.circles.len() == MAX_CIRCLES {
            return result;
        }
        // Everything that is left waits for something that is left, so walking back must meet itself.
        let circle = walk_back(nodes, stuck, &done);
        done.extend(circle.iter().copied());
        for name in &circle {
            release(name, &followers, &mut waiting, &done, &mut ready);
        }
        result.circles.push(circle);
    }
}

fn known<'n, 'a>(
    nodes: &'n BTreeMap<&'a str, Vec<&'a str>>,
    before: &'n [&'a str],
) -> impl Iterator<Item = &'a str> + 'n {
    before
        .iter()
        .copied()
        .filter(|name| nodes.contains_key(name))
}

fn release<'a>(
    name: &str,
    followers: &BTreeMap<&str, Vec<&'a str>>,
    waiting: &mut BTreeMap<&str, usize>,
    done: &BTreeSet<&str>,
    ready: &mut BTreeSet<&'a str>,
) {
    for &follower in followers.get(name).into_iter().flatten() {
        if let Some(count) = waiting.get_mut(follower) {
            *count = count.saturating_sub(1);
            if *count == 0 && !done.contains(follower) {
                ready.insert(follower);
            }
        }
    }
}

fn walk_back<'a>(
    nodes: &BTreeMap<&'a str, Vec<&'a str>>,
    start: &'a str,
    done: &BTreeSet<&str>,
) -> Vec<&'a str> {
    let mut path = vec![start];
    let mut place = BTreeMap::from([(start, 0)]);
    let mut current = start;
    loop {
        let before = nodes.get(current).map_or(&[][..], Vec::as_slice);
        let Some(next) = known(nodes, before).find(|name| !done.contains(name)) else {
            // Cannot happen for a name that is stuck; a circle of one is a safe answer.
            return vec![current];
        };
        if let Some(&first) = place.get(next) {
            return path.split_off(first);
        }
        place.insert(next, path.len());
        path.push(next);
        current = next;
    }
}

/// `a → b → a`.
pub(crate) fn show(circle: &[&str]) -> String {
    let mut names: Vec<&str> = circle.to_vec();
    names.extend(circle.first());
    names.join(" → ")
}
