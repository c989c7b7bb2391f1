//! W3C trace context, version 00: <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::str::FromStr;

use crate::random;

/// The header that carries a [`Trace`].
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// Where a call stands in a trace. Its text form is the value of `traceparent` for calls made from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The whole request as its first sender named it; never 0.
    pub trace_id: u128,
    /// This call; never 0.
    pub span_id: u64,
    /// The caller's span, 0 when there is none.
    pub parent_id: u64,
    /// Whether the first sender wants the trace recorded.
    pub sampled: bool,
}

impl Trace {
    /// A new trace.
    pub fn start() -> Self {
        let trace_id = (u128::from(random::next()) << 64) | u128::from(random::next());
        Self {
            trace_id: trace_id.max(1),
            span_id: random::next().max(1),
            parent_id: 0,
            sampled: false,
        }
    }

    /// A call below this one in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span_id: random::next().max(1),
            parent_id: self.span_id,
            ..self
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(
            f,
            "00-{:032x}-{:016x}-{flags:02x}",
            self.trace_id, self.span_id
        )
    }
}

/// The text is not a `traceparent`; receivers ignore it and start a new trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTrace;

impl FromStr for Trace {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let mut parts = text.split('-');
        let version = hex(parts.next(), 2)?;
        let trace_id = hex(parts.next(), 32)?;
        let span_id = hex(parts.next(), 16)?;
        let flags = hex(parts.next(), 2)?;
        // Later versions may append fields; version 00 has none, and ff is forbidden.
        let complete = version > 0 || parts.next().is_none();
        if !complete || version == 0xff || trace_id == 0 || span_id == 0 {
            return Err(InvalidTrace);
        }
        Ok(Self {
            trace_id,
            span_id: span_id as u64,
            parent_id: 0,
            sampled: flags & 1 == 1,
        })
    }
}

fn hex(part: Option<&str>, digits: usize) -> Result<u128, InvalidTrace> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let part = part
        .filter(|part| part.len() == digits && part.bytes().all(lower))
        .ok_or(InvalidTrace)?;
    u128::from_str_radix(part, 16).map_err(|_| InvalidTrace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_reads_and_prints() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace: Trace = text.parse().unwrap();
        assert!(trace.sampled);
        assert_eq!(trace.to_string(), text);
        let child = trace.child();
        assert_eq!(
            (child.trace_id, child.parent_id),
            (trace.trace_id, trace.span_id)
        );
        assert_ne!(child.span_id, trace.span_id);
    }

    #[test]
    fn what_the_specification_forbids_is_ignored() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<Trace>(), Err(InvalidTrace), "{text}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        assert!(later.parse::<Trace>().is_ok());
    }
}
