//! How a step is ended: by request, by its limits, and what happens to what it leaves behind.

use std::fs;

use api_step::v1::Outcome;

use crate::attempt::{Attempt, alive, assert_outcome, eventually};

#[test]
fn a_step_that_is_stopped_before_it_starts_never_starts() {
    let attempt = Attempt::script("true");
    fs::write(attempt.path("stop"), "").unwrap();
    let result = attempt.run();
    assert_outcome(&result, Outcome::Stopped, "STOPPED");
    assert!(!attempt.path("started").exists());
}

#[test]
fn a_running_step_is_stopped_by_sigterm() {
    let attempt = Attempt::script("echo $$ > pid; exec sleep 1000");
    let mut agent = attempt.start();
    let pid = attempt.await_line("work/pid");
    fs::write(attempt.path("stop"), "").unwrap();
    agent.terminate();
    assert_eq!(agent.wait().code(), Some(0));
    let result = attempt.result().unwrap();
    assert_outcome(&result, Outcome::Stopped, "STOPPED");
    assert_eq!(result.signal, Some(15));
    assert!(!alive(&pid));
}

#[test]
fn a_step_may_end_in_its_own_way_when_stopped() {
    let attempt = Attempt::script(
        "trap 'echo saved; exit 7' TERM; echo x > ready; while :; do sleep 0.1; done",
    );
    let mut agent = attempt.start();
    attempt.await_line("work/ready");
    agent.terminate();
    agent.wait();
    let result = attempt.result().unwrap();
    assert_outcome(&result, Outcome::Stopped, "STOPPED");
    assert_eq!(result.exit_code, Some(7));
    assert!(attempt.log().contains("saved"));
}

#[test]
fn a_stubborn_step_is_killed_after_the_grace() {
    let mut attempt = Attempt::script("trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done");
    attempt.assignment.stop_grace_ms = 50;
    let mut agent = attempt.start();
    let pid = attempt.await_line("work/pid");
    agent.terminate();
    agent.wait();
    let result = attempt.result().unwrap();
    assert_outcome(&result, Outcome::Stopped, "STOPPED");
    assert_eq!(result.signal, Some(9));
    assert!(!alive(&pid));
}

#[test]
fn stopping_reaches_every_descendant() {
    let script = "setsid sh -c 'echo $$ > one; sleep 1000' & (sleep 1000 & echo $! > two); echo $$ > main; wait";
    let attempt = Attempt::script(script);
    let mut agent = attempt.start();
    let pids = ["work/one", "work/two", "work/main"].map(|name| attempt.await_line(name));
    agent.terminate();
    agent.wait();
    assert!(pids.iter().all(|pid| !alive(pid)), "{pids:?}");
    assert!(attempt.path("exit").exists());
}

#[test]
fn a_step_that_runs_too_long_is_ended() {
    let mut attempt = Attempt::script("sleep 1000");
    attempt.assignment.timeout_ms = 100;
    let result = attempt.run();
    assert_outcome(&result, Outcome::TimedOut, "TIMED_OUT");
    assert!(result.message.contains("0.1 s"), "{}", result.message);
    let took = result.ended_at_us - result.started_at_us + result.prepare_us;
    assert!(took >= 100_000, "took only {took} us");
}

#[test]
fn a_step_that_uses_too_much_memory_is_ended() {
    let mut attempt = Attempt::command(&[
        "python3",
        "-c",
        "x = bytearray(200 << 20)\nimport time; time.sleep(1000)",
    ]);
    attempt.assignment.memory_limit_bytes = 100 << 20;
    let result = attempt.run();
    assert_outcome(&result, Outcome::OomKilled, "OUT_OF_MEMORY");
    assert_eq!(result.signal, Some(9));
    assert!(
        result.message.contains("limit of 100.0 MiB"),
        "{}",
        result.message
    );
    assert!(result.usage.unwrap().peak_memory_bytes > 100 << 20);
}

#[test]
fn memory_is_that_of_the_whole_tree() {
    let hold = "x = bytearray(60 << 20); import time; time.sleep(1000)";
    let mut attempt = Attempt::script(&format!(
        "for i in 1 2 3; do python3 -c '{hold}' & done; wait"
    ));
    attempt.assignment.memory_limit_bytes = 150 << 20;
    attempt.assignment.timeout_ms = 20_000;
    let result = attempt.run();
    assert_outcome(&result, Outcome::OomKilled, "OUT_OF_MEMORY");
}

#[test]
fn memory_that_processes_share_counts_once() {
    let fork = "import os, time\nx = bytearray(150 << 20)\nfor i in range(6):\n  if os.fork() == 0: break\ntime.sleep(1.5)";
    let mut attempt = Attempt::command(&["python3", "-c", fork]);
    attempt.assignment.memory_limit_bytes = 500 << 20;
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let peak = result.usage.unwrap().peak_memory_bytes >> 20;
    assert!((150..300).contains(&peak), "{peak} MiB");
}

#[test]
fn the_peak_of_a_short_spike_is_seen() {
    let spike = "x = bytearray(80 << 20); del x; import time; time.sleep(0.3)";
    let result = Attempt::command(&["python3", "-c", spike]).run();
    let usage = result.usage.unwrap();
    let peak = usage.peak_memory_bytes >> 20;
    assert!((80..200).contains(&peak), "{peak} MiB");
    assert!(usage.user_cpu_us + usage.system_cpu_us > 1_000, "{usage:?}");
}

#[test]
fn background_processes_end_with_their_program() {
    let attempt = Attempt::script("sleep 1000 & echo $! > pid");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let pid = attempt.await_line("work/pid");
    assert!(
        !alive(&pid),
        "no exit record while a process of the step lives"
    );
}

#[test]
fn orphans_that_hide_in_a_session_of_their_own_are_found() {
    let mut attempt = Attempt::script(
        "(setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.1; done' &); while [ ! -s pid ]; do sleep 0.01; done",
    );
    attempt.assignment.stop_grace_ms = 50;
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert!(!alive(&attempt.await_line("work/pid")));
}

#[test]
fn the_result_does_not_wait_for_background_processes() {
    let mut attempt = Attempt::script(
        "trap '' TERM; sh -c 'echo $$ > pid; while :; do sleep 0.1; done' & while [ ! -s pid ]; do sleep 0.01; done; exit 5",
    );
    attempt.assignment.stop_grace_ms = 60_000;
    let mut agent = attempt.start();
    let result = eventually("the result", || attempt.result());
    assert_outcome(&result, Outcome::Failed, "PROGRAM_FAILED");
    let pid = attempt.await_line("work/pid");
    assert!(alive(&pid) && !attempt.path("exit").exists());
    crate::attempt::signal(pid.parse().unwrap(), "KILL");
    assert_eq!(agent.wait().code(), Some(0));
    assert!(attempt.path("exit").exists());
}

#[test]
fn what_a_program_left_is_ended_before_its_outputs_are_read() {
    // It writes on until it is ended, and what it wrote is all that counts.
    let mut attempt = Attempt::script(
        "trap '' TERM; sh -c 'echo $$ > pid; while :; do echo x >> \"$0\"; done' \"{{$.outputs.artifacts['model'].path}}\" & \
         while [ ! -s pid ]; do sleep 0.01; done",
    )
    .artifact("model");
    attempt.assignment.stop_grace_ms = 50;
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let artifact = &result.artifacts[0].artifacts[0];
    let kept = fs::metadata(&artifact.uri).unwrap().len();
    assert_eq!(artifact.size_bytes, kept);
    assert!(!alive(&attempt.await_line("work/pid")));
}

#[test]
fn what_a_program_left_has_no_more_time_than_the_step() {
    let mut attempt = Attempt::script(
        "trap '' TERM; sh -c 'echo $$ > pid; while :; do sleep 0.1; done' & while [ ! -s pid ]; do sleep 0.01; done",
    );
    attempt.assignment.stop_grace_ms = 60_000;
    attempt.assignment.timeout_ms = 1_000;
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert!(!alive(&attempt.await_line("work/pid")));
}

#[test]
fn programs_of_the_same_user_do_not_see_into_the_agent() {
    // What is hidden is the agent alone, and its program keeps its oom score.
    let script = "cat /proc/$PPID/environ >/dev/null 2>&1 && exit 3; head -c 1 /proc/$PPID/mem 2>&1 | grep -q denied || exit 4; \
                  ls /proc/$PPID/fd >/dev/null 2>&1 && exit 5; cat /proc/self/environ >/dev/null || exit 6; cat /proc/self/oom_score_adj";
    let mut attempt = crate::attempt::as_ordinary_user(Attempt::script(script));
    attempt.assignment.oom_score_adj = 321;
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(attempt.log(), "321\n");
}

#[test]
fn the_agent_survives_a_hangup_and_leads_its_own_session() {
    let attempt = Attempt::script("echo x > ready; while [ ! -e go ]; do sleep 0.1; done");
    let mut agent = attempt.start();
    attempt.await_line("work/ready");
    crate::attempt::signal(agent.pid(), "HUP");
    fs::write(attempt.path("work/go"), "").unwrap();
    assert_eq!(agent.wait().code(), Some(0));
    assert_outcome(&attempt.result().unwrap(), Outcome::Succeeded, "");
}
