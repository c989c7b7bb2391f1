//! Python functions through kfp's own executor.
