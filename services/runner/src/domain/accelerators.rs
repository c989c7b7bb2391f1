//! Accelerators as slots: which devices a node has, and who has which.

use serde::{Deserialize, Serialize};

/// How many kinds of accelerators a node may have.
pub const KINDS: usize = 8;
/// How many devices of a kind a node may have.
pub const DEVICES: usize = 1024;

/// How many devices of each kind, in the order of the node's pools.
pub type Slots = [u32; KINDS];

/// The devices of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The name that tasks ask for, such as `nvidia.com/gpu`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What programs are told of each device: its number or its name.
    #[serde(deserialize_with = "ids")]
    pub ids: Vec<String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kind of its pool.
    pub kind: String,
    /// Its id there.
    pub id: String,
}

impl Device {
    /// Reads what [`std::fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(' ')?;
        Some(Self {
            kind: kind.to_owned(),
            id: id.to_owned(),
        })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// Numbers are written as numbers or as texts.
fn ids<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u32),
        Text(String),
    }
    let ids = Vec::<Id>::deserialize(deserializer)?;
    let text = |id| match id {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    };
    Ok(ids.into_iter().map(text).collect())
}

/// What is wrong with the pools of a node, as `place: what would be right`.
pub fn problems(pools: &[Pool]) -> Vec<String> {
    let word = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        (1..=128).contains(&text.len()) && text.bytes().all(plain)
    };
    let mut problems = Vec::new();
    if pools.len() > KINDS {
        problems.push(format!(": at most {KINDS} types"));
    }
    for (number, pool) in pools.iter().enumerate() {
        let first = pools.iter().position(|other| other.kind == pool.kind);
        if !word(&pool.kind) || first != Some(number) {
            problems.push(format!(
                "[{number}].type: expected a type of its own, such as nvidia.com/gpu"
            ));
        }
        let mut sorted: Vec<&String> = pool.ids.iter().collect();
        sorted.sort();
        sorted.dedup();
        let fine = (1..=DEVICES).contains(&pool.ids.len())
            && sorted.len() == pool.ids.len()
            && pool.ids.iter().all(|id| word(id));
        if !fine {
            problems.push(format!(
                "[{number}].ids: expected 1 to {DEVICES} different ids without blanks and commas, such as [0, 1]"
            ));
        }
        let shared = pools[..number].iter().find(|other| {
            // Types of makers that we do not know may stand for anything.
            let alike = maker(&pool.kind).is_some() && maker(&pool.kind) == maker(&other.kind);
            alike && pool.kind != other.kind && pool.ids.iter().any(|id| other.ids.contains(id))
        });
        if let Some(other) = shared {
            problems.push(format!(
                "[{number}].ids: expected each device in one type only; {} has some of them",
                other.kind
            ));
        }
    }
    problems
}

/// The pool that serves a type. Types that name a model are served by the same type alone, or by the general type of
/// their maker; the general type is served by every model.
pub fn serving(pools: &[Pool], asked: &str, count: u32) -> Option<usize> {
    let same = |pool: &Pool| pool.kind.eq_ignore_ascii_case(asked);
    let fits = |pool: &Pool| {
        let related = maker(&pool.kind).is_some() && maker(&pool.kind) == maker(asked);
        same(pool) || (related && (general(&pool.kind) || general(asked)))
    };
    let best = |pool: &Pool| (same(pool), pool.ids.len() >= count as usize);
    // The first of the best.
    let candidates = pools.iter().enumerate().filter(|(_, pool)| fits(pool));
    candidates
        .rev()
        .max_by_key(|(_, pool)| best(pool))
        .map(|(at, _)| at)
}

fn maker(kind: &str) -> Option<&'static str> {
    let kind = kind.to_ascii_lowercase();
    let makers = [
        ("nvidia", "nvidia"),
        ("amd", "amd"),
        ("tpu", "tpu"),
        ("gpu", "nvidia"),
    ];
    let found = makers.iter().find(|(word, _)| match *word {
        "gpu" => kind == "gpu",
        word => kind.contains(word),
    });
    found.map(|(_, maker)| *maker)
}

fn general(kind: &str) -> bool {
    let names = ["gpu", "nvidia.com/gpu", "amd.com/gpu", "google.com/tpu"];
    names.iter().any(|name| kind.eq_ignore_ascii_case(name))
}

/// The variables that tell programs of a kind which devices to use, with the value for none.
fn variables(kind: &str) -> &'static [(&'static str, &'static str)] {
    match maker(kind) {
        Some("amd") => &[("HIP_VISIBLE_DEVICES", ""), ("ROCR_VISIBLE_DEVICES", "")],
        Some("tpu") => &[("TPU_VISIBLE_DEVICES", "")],
        _ => &[
            ("CUDA_VISIBLE_DEVICES", ""),
            ("NVIDIA_VISIBLE_DEVICES", "void"),
        ],
    }
}

/// What hides every device of a node; a task may override it.
pub fn hidden(pools: &[Pool]) -> Vec<(&'static str, String)> {
    let variables = pools.iter().flat_map(|pool| variables(&pool.kind));
    variables
        .map(|(name, none)| (*name, (*none).to_owned()))
        .collect()
}

/// What shows a task exactly its devices.
pub fn granted(devices: &[Device]) -> Vec<(&'static str, String)> {
    let Some(first) = devices.first() else {
        return Vec::new();
    };
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    let mut found: Vec<(&str, String)> = variables(&first.kind)
        .iter()
        .map(|(name, _)| (*name, ids.join(",")))
        .collect();
    if found
        .iter()
        .any(|(name, _)| *name == "CUDA_VISIBLE_DEVICES")
    {
        // Else CUDA counts from the fastest device, and the numbers are those of others.
        found.push(("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()));
    }
    found
}

/// The devices of a node and which of them are taken.
#[derive(Debug, Default)]
pub struct Devices {
    pools: Vec<Pool>,
    taken: Vec<Vec<bool>>,
}

impl Devices {
    /// All free.
    pub fn new(pools: Vec<Pool>) -> Self {
        let free = |pool: &Pool| vec![false; pool.ids.len()];
        Self {
            taken: pools.iter().map(free).collect(),
            pools,
        }
    }

    /// The pools.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// How many there are.
    pub fn totals(&self) -> Slots {
        let mut totals = Slots::default();
        for (total, pool) in totals.iter_mut().zip(&self.pools) {
            *total = pool.ids.len() as u32;
        }
        totals
    }

    /// Takes the first free ones; the caller knows that there are enough.
    pub fn take(&mut self, slots: Slots) -> Vec<Device> {
        let mut found = Vec::new();
        for ((pool, taken), count) in self.pools.iter().zip(&mut self.taken).zip(slots) {
            let free = pool.ids.iter().zip(taken).filter(|(_, taken)| !**taken);
            for (id, taken) in free.take(count as usize) {
                *taken = true;
                found.push(Device {
                    kind: pool.kind.clone(),
                    id: id.clone(),
                });
            }
        }
        found
    }

    /// Takes these, as far as the node still has them and they are free, and says which and how many they were.
    pub fn take_these(&mut self, devices: &[Device]) -> (Slots, Vec<Device>) {
        let mut slots = Slots::default();
        let mut found = Vec::new();
        for device in devices {
            if let Some((pool, at)) = self.find(device)
                && !self.taken[pool][at]
            {
                self.taken[pool][at] = true;
                slots[pool] += 1;
                found.push(device.clone());
            }
        }
        (slots, found)
    }

    /// Gives back.
    pub fn give_back(&mut self, devices: &[Device]) {
        for device in devices {
            if let Some((pool, at)) = self.find(device) {
                self.taken[pool][at] = false;
            }
        }
    }

    /// The place of a device. Its id is the device; the type is only a name, and a pool may get another one while a step runs.
    fn find(&self, device: &Device) -> Option<(usize, usize)> {
        let at = |pool: &Pool| pool.ids.iter().position(|id| *id == device.id);
        let mut found = None;
        for (number, pool) in self.pools.iter().enumerate() {
            let same = pool.kind == device.kind;
            if (same || told_alike(&pool.kind, &device.kind))
                && let Some(at) = at(pool)
                && (same || found.is_none())
            {
                found = Some((number, at));
            }
        }
        found
    }
}

/// Whether programs are told of devices of both kinds by the same variables, so that one id is one device.
fn told_alike(one: &str, other: &str) -> bool {
    variables(one) == variables(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(kind: &str, ids: &[&str]) -> Pool {
        Pool {
            kind: kind.to_owned(),
            ids: ids.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    #[test]
    fn a_type_is_served_by_its_own_pool_or_by_its_makers() {
        let pools = [
            pool("NVIDIA_TESLA_T4", &["0"]),
            pool("NVIDIA_A100", &["1", "2"]),
            pool("amd.com/gpu", &["0"]),
        ];
        let table = [
            ("nvidia_a100", 1, Some(1)),
            ("NVIDIA_TESLA_K80", 1, None),
            ("nvidia.com/gpu", 1, Some(0)),
            ("gpu", 2, Some(1)),
            ("gpu", 3, Some(0)),
            ("amd.com/gpu", 1, Some(2)),
            ("amd.com/mi300", 1, Some(2)),
            ("cloud-tpus.google.com/v3", 1, None),
            ("fpga", 1, None),
        ];
        for (asked, count, expected) in table {
            assert_eq!(serving(&pools, asked, count), expected, "{asked} {count}");
        }
        let general = [pool("nvidia.com/gpu", &["0"])];
        assert_eq!(serving(&general, "NVIDIA_TESLA_K80", 1), Some(0));
        assert_eq!(serving(&[pool("fpga", &["x"])], "FPGA", 1), Some(0));
    }

    #[test]
    fn devices_are_taken_once_and_given_back() {
        let mut devices = Devices::new(vec![pool("a", &["0", "1", "2"]), pool("b", &["x"])]);
        let mut wanted = Slots::default();
        wanted[0] = 2;
        let first = devices.take(wanted);
        assert_eq!(granted(&first)[0].1, "0,1");
        let old = [
            Device::parse("a 1").unwrap(),
            Device::parse("b x").unwrap(),
            Device::parse("gone 7").unwrap(),
        ];
        assert_eq!(devices.take_these(&old).0[..3], [0, 1, 0]);
        devices.give_back(&first);
        wanted[0] = 3;
        assert_eq!(devices.take(wanted).len(), 3);
    }

    #[test]
    fn a_device_is_the_same_under_another_name() {
        // One pool became two, and steps of before still run.
        let mut devices = Devices::new(vec![
            pool("NVIDIA_A100", &["0", "1"]),
            pool("NVIDIA_TESLA_T4", &["2"]),
            pool("amd.com/gpu", &["0", "1"]),
        ]);
        let old = [
            Device::parse("nvidia.com/gpu 1").unwrap(),
            Device::parse("nvidia.com/gpu 2").unwrap(),
        ];
        let (slots, kept) = devices.take_these(&old);
        assert_eq!((&slots[..3], kept.len()), (&[1, 1, 0][..], 2));
        let mut wanted = Slots::default();
        wanted[0] = 1;
        assert_eq!(devices.take(wanted)[0].id, "0");
        devices.give_back(&kept);
        wanted[1] = 1;
        let next: Vec<String> = devices.take(wanted).iter().map(Device::to_string).collect();
        assert_eq!(next, ["NVIDIA_A100 1", "NVIDIA_TESLA_T4 2"]);
    }

    #[test]
    fn programs_see_their_own_devices_or_none() {
        let pools = [pool("nvidia.com/gpu", &["0"]), pool("amd.com/gpu", &["0"])];
        let hidden = hidden(&pools);
        assert!(hidden.contains(&("CUDA_VISIBLE_DEVICES", String::new())));
        assert!(hidden.contains(&("NVIDIA_VISIBLE_DEVICES", "void".to_owned())));
        assert!(hidden.contains(&("HIP_VISIBLE_DEVICES", String::new())));
        assert!(granted(&[]).is_empty());
    }

    #[test]
    fn problems_name_their_place() {
        let wrong = [
            pool("a", &["0", "0"]),
            pool("a", &["1"]),
            pool("b c", &["1"]),
        ];
        let found = problems(&wrong);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("[0].ids") && found[2].starts_with("[2].type"));
        assert!(problems(&[pool("a", &["0", "GPU-1"])]).is_empty());
        let shared = [
            pool("nvidia.com/gpu", &["0", "1"]),
            pool("amd.com/gpu", &["0"]),
            pool("NVIDIA_A100", &["1"]),
        ];
        let found = problems(&shared);
        assert!(
            found.len() == 1 && found[0].starts_with("[2].ids") && found[0].contains("nvidia"),
            "{found:?}"
        );
    }
}
