//! The tokio runtime.

use std::thread::available_parallelism;

/// Builds the runtime with `threads` workers.
///
/// Without a number: a hand-over between threads costs more than most of our calls, so a small machine gets two workers,
/// which is enough that one busy handler does not stall the rest; larger ones get half of their cores, at most eight.
pub fn build_tokio(threads: Option<usize>) -> std::io::Result<tokio::runtime::Runtime> {
    let workers = threads.unwrap_or_else(|| {
        let cores = available_parallelism().map_or(1, usize::from);
        default_workers(cores)
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .thread_name("flumina")
        .enable_all()
        .build()
}

fn default_workers(cores: usize) -> usize {
    if cores <= 1 {
        1
    } else {
        (cores / 2).clamp(2, 8)
    }
}

#[cfg(test)]
mod tests {
    use super::default_workers;

    #[test]
    fn small_machines_get_few_workers() {
        let table = [(1, 1), (2, 2), (4, 2), (8, 4), (64, 8)];
        for (cores, workers) in table {
            assert_eq!(default_workers(cores), workers);
        }
    }
}
