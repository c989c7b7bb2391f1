//! Ids of tasks and artifacts, drawn from blocks that were reserved by a commit.

use sql::Db;

use crate::store::sequences;

/// What is reserved beyond the present need.
const BLOCK: i64 = 1000;

/// Numbers that nobody else has.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    next: i64,
    end: i64,
}

impl Numbers {
    /// Makes sure that [`Numbers::draw`] can be called `count` times. What is left of a block that is too small is
    /// never used: ids may have gaps.
    pub(crate) async fn reserve(&mut self, db: &Db, count: usize) -> Result<(), sql::Error> {
        let count = i64::try_from(count).unwrap_or(i64::MAX / 2);
        if self.end - self.next >= count {
            return Ok(());
        }
        let size = count.saturating_add(BLOCK);
        let first: i64 = db
            .write(move |conn| Box::pin(async move { sequences::take(conn, size).await }))
            .await?;
        (self.next, self.end) = (first, first + size);
        Ok(())
    }

    /// The next number. More than were reserved is a fault of the caller; the number is then one that the next
    /// reservation refuses by the primary key, never one that is used twice.
    pub(crate) fn draw(&mut self) -> i64 {
        debug_assert!(self.next < self.end, "more ids drawn than reserved");
        self.next += 1;
        self.next - 1
    }
}
