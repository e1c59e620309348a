//! Memory handed out in size classes from one bounded stretch, and the shared memory behind it.
//!
//! ```
//! use noob_cloud_core::pool::Allocator;
//!
//! let mut allocator = Allocator::new(0, 1 << 20);
//! let region = allocator.take(1000)?;
//! assert_eq!((region.offset, region.size), (0, 1024));
//! allocator.give(region)?;
//! assert_eq!(allocator.used(), 0);
//! # Ok::<(), noob_cloud_core::pool::PoolError>(())
//! ```

mod allocator;
mod class;
mod error;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod numa;

pub use allocator::{Allocator, ClassUse, Region, Use};
pub use class::{ALIGN, class_size};
pub use error::PoolError;
#[cfg(target_os = "linux")]
pub use memory::{Memory, forks};
#[cfg(target_os = "linux")]
pub use numa::{Binding, nodes};
