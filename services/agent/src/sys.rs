//! Every system call that the standard library does not offer.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::time::{ClockId, clock_gettime};

/// A monotonic instant, as a time since some fixed moment.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// The time of day in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// Ends this process as a crash would.
pub(crate) fn kill_self() -> ! {
    let me = rustix::process::getpid();
    // SIGKILL to itself does not return; if it ever did, the abort does not either.
    rustix::process::kill_process(me, Signal::KILL).ok();
    std::process::abort()
}

/// Closes what was inherited beyond stdin, stdout and stderr.
#[expect(
    unsafe_code,
    reason = "no wrapper exists; called before any descriptor of ours is opened"
)]
pub(crate) fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
}

/// A file that exists in memory only and goes with its last descriptor, from its beginning.
pub(crate) fn memory_file(content: &[u8]) -> io::Result<File> {
    use std::io::Seek as _;
    let fd = rustix::fs::memfd_create("flumina", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Keeps other processes of the same user, such as those of steps, from reading the memory and the environment of this one.
/// A program that it starts is not hidden.
pub(crate) fn hide() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// The oom score that a program gets: a hint for the machine's choice. It inherits that of this process at its start, since
/// a process that is hidden cannot open the file of its own.
pub(crate) struct OomScore {
    file: File,
    own: String,
    wanted: i32,
}

impl OomScore {
    /// Prepares to add to the score; none when nothing is to be added, or the kernel does not let us.
    pub(crate) fn open(wanted: i32) -> Option<OomScore> {
        const PATH: &str = "/proc/self/oom_score_adj";
        let wanted = Some(wanted).filter(|&wanted| wanted != 0)?;
        let own = std::fs::read_to_string(PATH).ok()?;
        let file = File::options().write(true).open(PATH).ok()?;
        Some(OomScore { file, own, wanted })
    }

    fn raise(&mut self) {
        drop(self.file.write_all(self.wanted.to_string().as_bytes()));
    }

    fn restore(&mut self) {
        drop(self.file.write_all(self.own.trim().as_bytes()));
    }
}

/// Leaves the session and the terminal of whoever started us; fails when we lead one already, which is as good.
pub(crate) fn new_session() {
    rustix::process::setsid().ok();
}

/// Makes this process the parent of every orphan below it.
pub(crate) fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Signals that arrive as readable bytes instead of interrupting.
pub(crate) struct Signals {
    file: File,
    stop: bool,
}

impl Signals {
    /// Blocks the signals that the agent cares about, and SIGHUP, which must not end it.
    #[expect(unsafe_code, reason = "signal masks and signalfd have no safe wrapper")]
    pub(crate) fn block() -> io::Result<Signals> {
        // SAFETY: the set is initialised by sigemptyset before use; the descriptor is new and owned by the File alone.
        let fd = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Signals {
            // SAFETY: see above.
            file: unsafe { File::from_raw_fd(fd) },
            stop: false,
        })
    }

    /// Waits for a signal or the end of the time.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().min(3600) as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // An interrupted or failed wait is only an early wake.
        rustix::event::poll(
            &mut [PollFd::new(&self.file, PollFlags::IN)],
            Some(&timeout),
        )
        .ok();
        self.drain();
    }

    /// Whether SIGTERM or SIGINT has arrived so far.
    pub(crate) fn stop_requested(&mut self) -> bool {
        self.drain();
        self.stop
    }

    fn drain(&mut self) {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        while matches!(self.file.read(&mut info), Ok(read) if read == info.len()) {
            // The signal's number is the first field.
            let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            self.stop |= number == libc::SIGTERM || number == libc::SIGINT;
        }
    }
}

/// A child that has ended, or that there is none.
pub(crate) enum Reaped {
    /// It ended.
    Child(Pid, WaitStatus),
    /// All that are left are running.
    Running,
    /// None is left.
    None,
}

/// Collects one ended child without waiting.
pub(crate) fn reap() -> Reaped {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Reaped::Child(pid, status),
        Ok(None) => Reaped::Running,
        Err(_) => Reaped::None,
    }
}

/// What the collected children used, with everything that they had collected themselves.
pub(crate) struct Used {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// The largest resident size of any single one, in bytes.
    pub(crate) max_rss: u64,
}

#[expect(unsafe_code, reason = "getrusage has no safe wrapper")]
pub(crate) fn used_by_children() -> Used {
    // SAFETY: plain data that the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let micros =
        |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
    Used {
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss: usage.ru_maxrss.unsigned_abs() * 1024,
    }
}

/// Sends a signal; a process that is gone is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// What a new process gets besides its program.
pub(crate) struct Child {
    /// Its oom score; none leaves it.
    pub(crate) oom_score: Option<OomScore>,
    /// `cgroup.procs` of the cgroup to join, open for writing.
    pub(crate) cgroup: Option<File>,
    /// Whether it leads a process group of its own.
    pub(crate) own_group: bool,
}

/// Starts a program with default signals and no other descriptor than 0, 1 and 2. An error of exec is returned.
#[expect(unsafe_code, reason = "what runs between fork and exec")]
pub(crate) fn spawn(command: &mut Command, child: Child) -> io::Result<Pid> {
    if child.own_group {
        command.process_group(0);
    }
    let mut score = child.oom_score;
    let prepare = move || {
        default_signals();
        // SAFETY: marks descriptors only; they stay open until exec, as the standard library's own pipe must.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3u32,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
        }
        if let Some(mut cgroup) = child.cgroup.as_ref() {
            cgroup.write_all(b"0")?;
        }
        Ok(())
    };
    // SAFETY: this process has one thread, so the child may do anything that the parent could.
    let command = unsafe { command.pre_exec(prepare) };
    score.iter_mut().for_each(OomScore::raise);
    let started = command.spawn();
    score.iter_mut().for_each(OomScore::restore);
    let pid = i32::try_from(started?.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("the new process has no id"))
}

/// Ignored and blocked signals survive exec; the program must not inherit our taste. The raw call reaches the two signals that
/// the C library keeps to itself.
#[expect(unsafe_code, reason = "signal dispositions have no safe wrapper")]
fn default_signals() {
    // The kernel's struct sigaction: a handler, flags, a restorer and a mask; all zero is SIG_DFL.
    let default = [0u64; 4];
    for number in 1..=64 {
        // SAFETY: the structure outlives the call; numbers that cannot be changed are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Writes everything of the file system that holds a file to the disk.
pub(crate) fn sync_file_system(file: &File) -> io::Result<()> {
    rustix::fs::syncfs(file.as_fd())?;
    Ok(())
}
