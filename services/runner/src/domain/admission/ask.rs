//! What is asked for, and why it is not there yet.

use ids::WorkloadId;

use super::super::accelerators::Slots;

/// Cores, memory and accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Accelerators of each kind.
    pub slots: Slots,
}

impl Amount {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory: self.memory.saturating_add(other.memory),
            slots: std::array::from_fn(|at| self.slots[at].saturating_add(other.slots[at])),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory: self.memory.saturating_sub(other.memory),
            slots: std::array::from_fn(|at| self.slots[at].saturating_sub(other.slots[at])),
        }
    }

    /// Whether all numbers are at most those of `other`.
    pub fn within(self, other: Self) -> bool {
        let fewer = self.slots.iter().zip(other.slots);
        self.cpu_milli <= other.cpu_milli
            && self.memory <= other.memory
            && fewer.into_iter().all(|(own, other)| *own <= other)
    }

    /// At most `limit` of each.
    #[must_use]
    pub fn clamped(self, limit: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.min(limit.cpu_milli),
            memory: self.memory.min(limit.memory),
            slots: std::array::from_fn(|at| self.slots[at].min(limit.slots[at])),
        }
    }
}

/// A group that starts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gang {
    /// Its name within the namespace.
    pub name: String,
    /// How many members must be there.
    pub minimum: u32,
}

/// Who asks for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The workload.
    pub id: WorkloadId,
    /// Whose turn it uses.
    pub namespace: String,
    /// What it reserves.
    pub amount: Amount,
    /// With whom it starts.
    pub gang: Option<Gang>,
}

/// Why something is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The cores are taken.
    Cpu,
    /// The memory is taken.
    Memory,
    /// The accelerators are taken.
    Accelerator,
    /// Others come first.
    Line,
    /// Members of its gang are missing.
    Gang,
}

impl Why {
    /// The reason that callers see.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Cpu => "WAITING_FOR_CPU",
            Self::Memory => "WAITING_FOR_MEMORY",
            Self::Accelerator => "WAITING_FOR_ACCELERATOR",
            Self::Line => "WAITING_IN_LINE",
            Self::Gang => "WAITING_FOR_GANG",
        }
    }
}
