//! Times on the wire: `google.protobuf.Timestamp` and `Duration`.

use std::time::Duration;

use clock::Timestamp;

/// A time as a message.
pub fn to_proto(timestamp: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: timestamp.as_secs(),
        nanos: timestamp.subsec_micros() as i32 * 1000,
    }
}

/// A time from a message; nanoseconds are cut to microseconds.
pub fn from_proto(timestamp: &prost_types::Timestamp) -> Timestamp {
    let micros = timestamp
        .seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(timestamp.nanos / 1000));
    Timestamp::from_micros(micros)
}

/// A duration from a message; none when it is negative.
pub fn duration_from_proto(duration: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*duration).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
            let timestamp = Timestamp::from_micros(micros);
            assert_eq!(from_proto(&to_proto(timestamp)), timestamp);
        }
    }
}
