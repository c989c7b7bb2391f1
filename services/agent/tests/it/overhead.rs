//! The agent is there for every step: it must be small.

use crate::attempt::Attempt;

#[test]
fn a_waiting_agent_is_small() {
    let attempt = Attempt::script("echo x > ready; exec sleep 1000");
    let agent = attempt.start();
    attempt.await_line("work/ready");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    // The released agent is statically linked and takes less than half of this.
    assert!(kib < 6 * 1024, "{kib} KiB");
    assert_eq!(
        status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:\t")),
        Some("1")
    );
    agent.terminate();
}
