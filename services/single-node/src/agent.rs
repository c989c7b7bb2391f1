//! The agent that this program carries.

/// The static `flumina-agent`; the runner unpacks it under its digest.
pub const AGENT: &[u8] = include_bytes!(env!("FLUMINA_AGENT"));

#[cfg(test)]
mod tests {
    use super::AGENT;

    /// `PT_INTERP`: the program asks for a dynamic loader (elf(5)).
    const INTERPRETER: u32 = 3;

    #[test]
    fn the_agent_is_small_and_static() {
        assert!(AGENT.len() < 2_000_000, "{} bytes", AGENT.len());
        assert_eq!(&AGENT[..5], b"\x7fELF\x02", "a 64-bit program");
        let number = |at: usize, size: usize| {
            let bytes = &AGENT[at..at + size];
            bytes
                .iter()
                .rev()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        for header in 0..count {
            let kind = number(table + header * size, 4);
            assert_ne!(kind, INTERPRETER as usize, "header {header}");
        }
    }
}
