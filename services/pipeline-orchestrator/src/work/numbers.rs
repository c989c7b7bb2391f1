//! Ids of tasks and artifacts, drawn from blocks that were reserved by a commit.
//!
//! Lists are in the order of ids, so all runs draw from one block, one number after another. Who is going to draw is
//! promised as many numbers as it may need; nobody waits for another one's promise, only for the commit that reserves
//! more when all promises together are more than what is left.

use std::sync::atomic::{AtomicI64, Ordering};

use sql::Db;
use tokio::sync::Mutex;

use crate::store::sequences;

/// What is reserved beyond the present need.
const BLOCK: i64 = 1000;

/// Numbers that nobody else has.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    next: AtomicI64,
    /// How many may still be drawn by those who hold a promise.
    promised: AtomicI64,
    /// The end of what is reserved; whoever changes it has the lock.
    end: Mutex<i64>,
}

/// The right to draw some numbers; what is left of it is given back.
#[derive(Debug)]
pub(crate) struct Promise<'n> {
    numbers: &'n Numbers,
    left: i64,
}

impl Numbers {
    /// Makes sure that [`Promise::draw`] can be called `count` times.
    pub(crate) async fn promise(&self, db: &Db, count: usize) -> Result<Promise<'_>, sql::Error> {
        let count = i64::try_from(count).unwrap_or(i64::MAX / 4);
        let mut end = self.end.lock().await;
        let all = self.promised.fetch_add(count, Ordering::SeqCst) + count;
        let promise = Promise {
            numbers: self,
            left: count,
        };
        if *end - self.next.load(Ordering::SeqCst) < all {
            let size = all.saturating_add(BLOCK);
            let first: i64 = db
                .write(move |conn| Box::pin(async move { sequences::take(conn, size).await }))
                .await?;
            // At the start, or after another process took over. Earlier promises go on there too: there is room for all.
            if first != *end {
                self.next.store(first, Ordering::SeqCst);
            }
            *end = first + size;
        }
        Ok(promise)
    }
}

impl Promise<'_> {
    /// The next number. More than were promised is a fault of the caller; the number is then one that the primary key
    /// refuses if somebody else has it, never one that is used twice.
    pub(crate) fn draw(&mut self) -> i64 {
        debug_assert!(self.left > 0, "more ids drawn than promised");
        let number = self.numbers.next.fetch_add(1, Ordering::SeqCst);
        self.left -= 1;
        // After the number is taken, so that what is promised is never less than what may be drawn.
        self.numbers.promised.fetch_sub(1, Ordering::SeqCst);
        number
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.numbers.promised.fetch_sub(self.left, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::tests::both;

    #[tokio::test]
    async fn nobody_waits_for_the_promise_of_another_one() {
        for opened in both().await {
            let (db, numbers) = (&opened.db, Numbers::default());
            let mut large = numbers.promise(db, 5_000).await.unwrap();
            let mut drawn: Vec<i64> = (0..10).map(|_| large.draw()).collect();
            // While the first one is still drawing.
            for _ in 0..3_000 {
                let mut small = numbers.promise(db, 2).await.unwrap();
                drawn.push(small.draw());
                drawn.push(small.draw());
            }
            drawn.extend((0..4_990).map(|_| large.draw()));
            assert!(drawn.is_sorted(), "lists are in this order");
            let different: BTreeSet<i64> = drawn.iter().copied().collect();
            assert_eq!(different.len(), drawn.len());
            // Another process draws none of these.
            let other = Numbers::default();
            let first = other.promise(db, 1).await.unwrap().draw();
            assert!(first > drawn[drawn.len() - 1]);
        }
    }

    #[tokio::test]
    async fn what_is_left_of_a_promise_is_given_back() {
        let [sqlite, _] = both().await;
        let numbers = Numbers::default();
        for _ in 0..50 {
            drop(numbers.promise(&sqlite.db, 100_000).await.unwrap());
        }
        assert_eq!(numbers.promised.load(Ordering::SeqCst), 0);
        assert!(*numbers.end.lock().await < 110_000);
    }
}
