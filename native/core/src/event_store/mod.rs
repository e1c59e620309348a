//! Events by epoch and signal: a slab for each epoch, and files for epochs that have to leave memory.

mod shared;
mod slab;
mod spill;
mod store;

pub use shared::SharedStore;
pub use slab::Slab;
pub use spill::{SpillError, SpillFolder, SpillHeader, Spilled};
pub use store::EventStore;
