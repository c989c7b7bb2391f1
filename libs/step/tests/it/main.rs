//! The contract against what real SDKs write.

mod placeholders;
mod template;
