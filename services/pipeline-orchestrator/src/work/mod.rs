//! Background work.

use ids::RunId;

/// Whoever brings runs forward. It reads what is to be done from the store, so a wake-up says only where to look; one
/// that is lost is made up for when the service starts again.
pub trait Engine: Send + Sync + 'static {
    /// A run is new, is asked to stop, or is to be removed.
    fn wake(&self, run: RunId);
}
