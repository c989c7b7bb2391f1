//! A real PostgreSQL server for this test process: started at first use, gone when the process is, however it ends.
//!
//! It listens on a Unix socket in a temporary folder and nowhere else. Durability is switched off: what a server
//! does in a power cut is its own tests' business.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{getgid, getuid};

/// The superuser of the test server.
const USER: &str = "flumina";

/// Starts the server, and ends it when its standard input does: at our exit, even by SIGKILL.
const WATCHDOG: &str = r#"
"$1/pg_ctl" --silent -D "$2/data" -l "$2/log" -w -o "$3" start >/dev/null 2>"$2/start" && echo ready || echo failed
cat >/dev/null
"$1/pg_ctl" --silent -D "$2/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$2"
"#;

/// The running server.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    folder: PathBuf,
    next: AtomicU32,
    /// Clones of one template wait for each other: PostgreSQL refuses a template that is in use.
    cloning: Mutex<()>,
    /// Holds the pipe that keeps the server alive.
    _watchdog: Child,
}

/// The server of this process. The first call starts it and takes about a second.
pub fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

impl Postgres {
    /// A new, empty database; its URL for sqlx.
    pub fn create_database(&self) -> String {
        self.create(&[])
    }

    /// A copy of a database to which nobody is connected, given and returned as URL. Much quicker than migrating.
    pub fn clone_database(&self, template: &str) -> String {
        let name = template
            .split(['/', '?'])
            .nth(3)
            .expect("a URL of this server");
        let _one = self.cloning.lock().unwrap_or_else(PoisonError::into_inner);
        self.create(&["--template", name])
    }

    fn create(&self, options: &[&str]) -> String {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut command = self.client("createdb");
        command.args(options).arg(&name);
        succeed(&mut command);
        self.url(&name)
    }

    /// The URL of a database by name.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@localhost/{database}?host={}",
            self.folder.display()
        )
    }

    /// Runs statements with psql and returns its bare output.
    pub fn psql(&self, url: &str, statements: &str) -> String {
        let name = url.split(['/', '?']).nth(3).expect("a URL of this server");
        let mut command = self.client("psql");
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        command.args([
            "--set",
            "ON_ERROR_STOP=1",
            "--dbname",
            name,
            "--command",
            statements,
        ]);
        succeed(&mut command)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .arg("--host")
            .arg(&self.folder)
            .args(["--username", USER]);
        command
    }

    fn start() -> Self {
        let bin = server_programs();
        // The path of a socket is short by nature, so not in whatever TMPDIR says.
        let folder = tempfile::Builder::new()
            .prefix("flumina-pg-")
            .tempdir_in("/tmp")
            .expect("a folder for PostgreSQL")
            .keep();
        let owner = Owner::choose();
        owner.own(&folder);
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.arg("-D").arg(folder.join("data"));
        initdb.args([
            "-U",
            USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        initdb.current_dir(&folder);
        owner.run_as(&mut initdb);
        succeed(&mut initdb);

        let watchdog = watch(&bin, &folder, &owner);
        Self {
            bin,
            folder,
            next: AtomicU32::new(1),
            cloning: Mutex::new(()),
            _watchdog: watchdog,
        }
    }
}

fn watch(bin: &Path, folder: &Path, owner: &Owner) -> Child {
    let options = format!(
        "-c listen_addresses= -c unix_socket_directories={} -c fsync=off -c full_page_writes=off \
         -c synchronous_commit=off -c max_connections=200 -c shared_buffers=32MB",
        folder.display()
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", WATCHDOG, "flumina-postgres"])
        .arg(bin)
        .arg(folder)
        .arg(options);
    // Ctrl-C in a terminal reaches the tests; the server is stopped because they ended, not beside them.
    command.process_group(0).current_dir(folder);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    owner.run_as(&mut command);
    let mut watchdog = command.spawn().expect("a shell");
    let mut answer = String::new();
    let stdout = watchdog.stdout.take().expect("a captured output");
    drop(BufReader::new(stdout).read_line(&mut answer));
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    assert_eq!(
        answer.trim(),
        "ready",
        "PostgreSQL did not start\n{}{}",
        read("start"),
        read("log")
    );
    watchdog
}

/// Who the server runs as: PostgreSQL refuses root.
#[derive(Debug)]
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn choose() -> Self {
        if !getuid().is_root() {
            return Self(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| ids_of(&users, name));
        Self(Some(user.unwrap_or((65534, 65534))))
    }

    fn own(&self, folder: &Path) {
        if let Some((uid, gid)) = self.0 {
            std::os::unix::fs::chown(folder, Some(uid), Some(gid))
                .expect("to give the folder away");
        }
    }

    fn run_as(&self, command: &mut Command) {
        let (uid, gid) = self.0.unwrap_or((getuid().as_raw(), getgid().as_raw()));
        if self.0.is_some() {
            command.uid(uid).gid(gid);
        }
    }
}

/// User and group id from the text of `/etc/passwd`.
fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Where `initdb` is: from the prepared environment, or where Debian puts it, or on the path.
fn server_programs() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = debian.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = debian
        .chain(std::env::split_paths(&path))
        .find(|bin| bin.join("initdb").is_file() && bin.join("pg_ctl").is_file());
    found.unwrap_or_else(|| crate::env().path("postgres_bin"))
}

fn succeed(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} failed\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Signal;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_database_takes_statements_and_its_clone_has_the_rows() {
        let server = postgres();
        let first = server.create_database();
        server.psql(&first, "CREATE TABLE t (x INT); INSERT INTO t VALUES (7)");
        let second = server.clone_database(&first);
        assert_ne!(first, second);
        assert_eq!(server.psql(&second, "SELECT x FROM t"), "7");
        let empty = server.create_database();
        assert_eq!(
            server.psql(
                &empty,
                "SELECT count(*) FROM pg_tables WHERE tablename = 't'"
            ),
            "0"
        );
    }

    #[test]
    fn the_server_listens_on_its_socket_only() {
        let server = postgres();
        let url = server.url("postgres");
        assert_eq!(server.psql(&url, "SHOW listen_addresses"), "");
    }

    /// Run by the next test in a process of its own: prints where the server is and waits to be killed.
    #[test]
    fn helper_that_holds_a_server() {
        if std::env::var_os("FLUMINA_TESTKIT_HOLD").is_some() {
            println!("\nholding {}", postgres().folder.display());
            std::thread::sleep(LIMIT);
        }
    }

    #[test]
    fn the_server_is_gone_after_its_process_was_killed() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "postgres::tests::helper_that_holds_a_server",
            "--nocapture",
        ]);
        command.env("FLUMINA_TESTKIT_HOLD", "1");
        let mut process = crate::Process::spawn("tests", command);
        let folder = PathBuf::from(process.wait_for_line("holding ", LIMIT));
        let pid = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        process.signal(Signal::KILL);
        process.wait(LIMIT);
        crate::eventually_blocking("folder and server are gone", LIMIT, || {
            let gone = !folder.exists() && !Path::new("/proc").join(&pid).join("cwd").exists();
            if gone { Ok(()) } else { Err(pid.clone()) }
        });
    }

    #[test]
    fn user_ids_are_read_by_name() {
        let users = "root:x:0:0:r:/:/bin/sh\npostgres:x:104:110::/:/bin/sh\n";
        assert_eq!(ids_of(users, "postgres"), Some((104, 110)));
        assert_eq!(ids_of(users, "post"), None);
    }
}
