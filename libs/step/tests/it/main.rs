//! The contract against what real SDKs write.
#![expect(clippy::unwrap_used, reason = "tests panic")]

mod placeholders;
mod template;
