//! The one place that reads the environment.

/// A variable's text; absent when it is not Unicode.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub(crate) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// All variables that are Unicode.
pub(crate) fn vars() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
