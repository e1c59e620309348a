//! The parts of noob-cloud that are measured to pay in Rust: algorithms and formats, no Python.

/// The version of the core, which the Python package compares with its own.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod cores;
pub mod event_store;
pub mod frame;
pub mod hash;
pub mod msgpack;
pub mod pool;
pub mod refusal;
pub mod scheduler;
pub mod wire;
