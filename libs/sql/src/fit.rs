//! Pages of rows that users decide the size of: they end when the rows reach a number of bytes.
//!
//! The sizes are read first, which neither database opens long texts for; then so many rows as fit.

use crate::{Conn, Error, FromRow, Sql, Value};

/// Bytes of stored text that one page reads. As a message they take about as much, and clients of gRPC take 4 MiB unless
/// told otherwise; lists of numbers take up to six times as much, which is still less than any message may have.
pub const PAGE_BYTES: i64 = 3 << 20;

/// How many of the first rows are one page; at least one, if there is one.
pub fn fitting(sizes: impl IntoIterator<Item = i64>) -> usize {
    let mut bytes = 0_i64;
    let whole = sizes.into_iter().take_while(|size| {
        bytes = bytes.saturating_add((*size).max(0));
        bytes <= PAGE_BYTES
    });
    whole.count().max(1)
}

impl Conn {
    /// Reads the first rows of a query that fit into one page, and whether there are more. `sizes` is the same query for
    /// the bytes of each row, as `value`; the last of `args` is the limit of both.
    pub async fn fetch_fitting<T: FromRow>(
        &mut self,
        sizes: impl Into<Sql>,
        rows: impl Into<Sql>,
        mut args: Vec<Value>,
    ) -> Result<(Vec<T>, bool), Error> {
        let Some(Value::I64(Some(limit))) = args.pop() else {
            return Err(Error::corrupt("limit", "the last bind must be the limit"));
        };
        let mut beyond = args.clone();
        beyond.push(Value::from(limit.saturating_add(1)));
        let sizes: Vec<i64> = self.fetch_all(sizes, beyond).await?;
        if sizes.is_empty() || limit <= 0 {
            return Ok((Vec::new(), !sizes.is_empty()));
        }
        let all = sizes.len();
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let count = fitting(sizes.into_iter().take(most));
        args.push(Value::from(i64::try_from(count).unwrap_or(limit)));
        Ok((self.fetch_all(rows, args).await?, count < all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_the_row_that_would_be_too_much() {
        let half = PAGE_BYTES / 2;
        assert_eq!(fitting([half - 1, half - 1, half]), 2);
        assert_eq!(fitting([half, half, 0, 1]), 3);
        assert_eq!(fitting([0; 200]), 200);
    }

    #[test]
    fn one_row_is_always_a_page() {
        assert_eq!(fitting([PAGE_BYTES + 1, 0]), 1);
        assert_eq!(fitting([i64::MAX, i64::MAX]), 1);
    }
}
