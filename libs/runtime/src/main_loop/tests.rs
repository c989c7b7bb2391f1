//! Real processes: each test starts this test binary again as a small service.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::*;
use crate::{Kind, abort_point};

/// The arguments of the service, separated by newlines.
const ARGS: &str = "FLUMINA_TEST_SERVICE_ARGS";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    process: ProcessConfig,
    mode: String,
}

impl ServiceConfig for Config {
    fn process(&self) -> &ProcessConfig {
        &self.process
    }

    fn validate(&self) -> Vec<String> {
        if self.mode == "invalid" {
            return vec!["mode: must not be `invalid`".to_owned()];
        }
        Vec::new()
    }
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

async fn start(config: Config, host: Host) -> anyhow::Result<()> {
    if config.mode == "no-start" {
        anyhow::bail!("no disk");
    }
    let mode = config.mode;
    host.supervisor
        .spawn(Kind::ESSENTIAL, "work", move |shutdown| {
            let mode = mode.clone();
            async move {
                match mode.as_str() {
                    "failing" => return Err("it broke"),
                    "panicking" => panic!("it broke"),
                    _ => shutdown.wait().await,
                }
                if mode == "stuck" {
                    std::future::pending::<()>().await;
                }
                say("worker ended\n");
                Ok(())
            }
        });
    say(&format!("ready {}\n", host.admin.unwrap()));
    abort_point("runtime.test.started");
    Ok(())
}

/// Not a test by itself: the process that the others start.
#[test]
fn service_process() {
    let Some(args) = crate::env::var(ARGS) else {
        return;
    };
    let process = Process {
        name: "sample",
        version: "1.2.3",
    };
    let args = std::iter::once("sample")
        .chain(args.lines())
        .map(OsString::from);
    let code = run_args(process, args, start);
    std::process::exit(i32::from(code));
}

struct Service {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Service {
    fn spawn(args: &[&str], vars: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "main_loop::tests::service_process",
                "--exact",
                "--nocapture",
            ])
            .env(ARGS, args.join("\n"))
            .env("FLUMINA_SAMPLE__PROCESS__ADMIN__LISTEN", "127.0.0.1:0")
            .envs(vars.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn ready(args: &[&str], vars: &[(&str, &str)]) -> (Self, SocketAddr) {
        let mut service = Self::spawn(args, vars);
        let address = service.line("ready ").parse().unwrap();
        (service, address)
    }

    /// The rest of the next line that begins with `start`.
    fn line(&mut self, start: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.lines.read_line(&mut line).unwrap(),
                0,
                "no line `{start}`"
            );
            // The test harness prints its own text before, on the same line.
            if let Some(at) = line.find(start) {
                return line[at + start.len()..].trim_end().to_owned();
            }
        }
    }

    fn signal(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// The exit code (or minus the signal), standard output and standard error.
    fn end(mut self) -> (i32, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.lines.read_to_string(&mut out).unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
        (code, out, err)
    }
}

fn http(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn bad_arguments_and_configurations_exit_with_64_and_name_the_key() {
    for (args, text) in [
        (["--no-such-flag"].as_slice(), "--no-such-flag"),
        (&["--set", "mood=x"], "unknown key `mood`"),
        (&["--set", "mode=invalid"], "mode: must not be"),
        (
            &["--set", "process.log.filter=a=b=c"],
            "process.log.filter:",
        ),
        (&["--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ] {
        let (code, _, err) = Service::spawn(args, &[]).end();
        assert_eq!(code, 64, "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
}

#[test]
fn checks_and_dumps_start_nothing() {
    let (code, out, _) = Service::spawn(&["--check-config"], &[]).end();
    assert_eq!((code, out.contains("ready")), (0, false));
    let token = ("FLUMINA_SAMPLE__PROCESS__ADMIN__TOKEN", "hunter2");
    let (code, out, _) = Service::spawn(&["--dump-config", "--set", "mode=x"], &[token]).end();
    assert_eq!(code, 0);
    assert!(out.contains("mode = \"x\""), "{out}");
    assert!(out.contains("token = \"***\""), "{out}");
}

#[test]
fn failures_exit_with_1_and_say_why() {
    for (mode, text) in [
        ("mode=no-start", "cannot start: no disk"),
        ("mode=failing", "it broke"),
        ("mode=panicking", "it broke"),
    ] {
        let (code, _, err) = Service::spawn(&["--set", mode], &[]).end();
        assert_eq!(code, 1, "{mode}: {err}");
        assert!(err.contains(text), "{mode}: {err}");
    }
}

#[test]
fn an_open_admin_port_without_a_token_is_refused() {
    let args = ["--set", "process.admin.listen=0.0.0.0:0"];
    let open = ("FLUMINA_SAMPLE__PROCESS__ADMIN__LISTEN", "0.0.0.0:0");
    let (code, _, err) = Service::spawn(&args, &[open]).end();
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("the admin port must not listen on 0.0.0.0:0"),
        "{err}"
    );
}

#[test]
fn the_first_signal_drains_in_order() {
    // Long enough that readiness can be seen withdrawn while the process still answers.
    let (mut service, admin) = Service::ready(&["--set", "process.pre_stop_seconds=1"], &[]);
    assert!(http(admin, "GET /livez HTTP/1.1", "").starts_with("HTTP/1.1 200"));
    assert!(http(admin, "GET /readyz HTTP/1.1", "").starts_with("HTTP/1.1 200"));
    assert!(http(admin, "GET /metrics HTTP/1.1", "").contains("# EOF"));
    service.signal();
    let mut answer = String::new();
    while !answer.starts_with("HTTP/1.1 503") {
        answer = http(admin, "GET /readyz HTTP/1.1", "");
    }
    assert!(answer.ends_with("draining\n"), "{answer}");
    service.line("worker ended");
    let (code, _, err) = service.end();
    assert_eq!(code, 0, "{err}");
}

#[test]
fn the_second_signal_ends_the_process_now() {
    let (mut service, admin) = Service::ready(&["--set", "mode=stuck"], &[]);
    service.signal();
    while http(admin, "GET /readyz HTTP/1.1", "").starts_with("HTTP/1.1 200") {}
    // One that comes at once is taken for the first again; one of these is late enough.
    while service.child.try_wait().unwrap().is_none() {
        service.signal();
    }
    let (code, _, err) = service.end();
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("second signal"), "{err}");
}

#[test]
fn tasks_that_do_not_end_are_named_after_the_grace() {
    let args = ["--set", "mode=stuck", "--set", "process.grace_seconds=0"];
    let (service, _) = Service::ready(&args, &[]);
    service.signal();
    let (code, _, err) = service.end();
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("sample/work"), "{err}");
}

#[test]
fn the_admin_port_asks_for_its_token_except_from_probes() {
    let token = ("FLUMINA_SAMPLE__PROCESS__ADMIN__TOKEN", "hunter2");
    let (service, admin) = Service::ready(&[], &[token]);
    assert!(http(admin, "GET /readyz HTTP/1.1", "").starts_with("HTTP/1.1 200"));
    assert!(http(admin, "GET /metrics HTTP/1.1", "").starts_with("HTTP/1.1 401"));
    let put = "PUT /log-filter HTTP/1.1";
    assert!(http(admin, put, "debug").starts_with("HTTP/1.1 401"));
    let put = "PUT /log-filter HTTP/1.1\r\nAuthorization: Bearer hunter2";
    assert!(http(admin, put, "debug").starts_with("HTTP/1.1 204"));
    assert!(http(admin, put, "a=loud").starts_with("HTTP/1.1 400"));
    service.signal();
    let (code, _, err) = service.end();
    assert_eq!(code, 0);
    assert!(err.contains("the log filter changed"), "{err}");
}

#[test]
fn the_admin_port_listens_neither_to_foreign_pages_nor_to_foreign_names() {
    let allowed = (
        "FLUMINA_SAMPLE__PROCESS__ADMIN__ALLOWED_HOSTS",
        "[\"metrics.example\"]",
    );
    let (service, admin) = Service::ready(&[], &[allowed]);
    let own = admin.to_string();
    let table = [
        (own.clone(), "", true),
        (format!("localhost:{}", admin.port()), "", true),
        ("metrics.example".to_owned(), "", true),
        (format!("rebound.example:{}", admin.port()), "", false),
        ("127.0.0.1:1".to_owned(), "", false),
        (own.clone(), "Origin: http://evil.example\r\n", false),
        (own.clone(), "Origin: null\r\n", false),
        (own.clone(), "Sec-Fetch-Site: cross-site\r\n", false),
        (own.clone(), "Sec-Fetch-Site: same-site\r\n", false),
        (own.clone(), "Sec-Fetch-Site: none\r\n", true),
    ];
    for (host, headers, listens) in table {
        for line in ["GET /metrics", "GET /livez", "PUT /log-filter"] {
            let body = if line.starts_with("PUT") { "info" } else { "" };
            let mut stream = TcpStream::connect(admin).unwrap();
            let length = body.len();
            write!(
                stream,
                "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let refused = answer.starts_with("HTTP/1.1 403");
            assert_eq!(refused, !listens, "{line} {host} {headers}: {answer}");
        }
    }
    service.signal();
    assert_eq!(service.end().0, 0);
}

#[test]
fn an_armed_abort_point_kills_the_process() {
    let armed = ("FLUMINA_ABORT", "runtime.test.started");
    let (service, _) = Service::ready(&[], &[armed]);
    assert_eq!(service.end().0, -9);
    let other = ("FLUMINA_ABORT", "runtime.test.started:2");
    let (service, _) = Service::ready(&[], &[other]);
    service.signal();
    assert_eq!(service.end().0, 0);
}
