//! Shared memory without a name: gone with the last process that maps it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::numa::{self, Binding};

const PAGE: usize = 4096;
const MPOL_BIND: libc::c_int = 2;

static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many forks lie between this process and the one that asked first: it changes in a child, so
/// that the child can tell what belongs to its parent.
pub fn forks() -> u64 {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is allowed between fork and exec.
        unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// A mapping of shared memory.
pub struct Memory {
    fd: OwnedFd,
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping stays where it is until it is dropped, and `Memory` itself reads and writes
// none of its bytes but untouched ones; whoever uses the address answers for its own accesses.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Make `len` bytes, rounded up to whole pages: sparse, zero, and private to whoever gets the
    /// descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(len: usize) -> io::Result<Self> {
        let len = len
            .checked_next_multiple_of(PAGE)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // SAFETY: the name is a C string, and the result is checked.
        let fd = unsafe { libc::memfd_create(c"noob-cloud".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor just made, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let size = libc::off_t::try_from(len).map_err(io::Error::other)?;
        // SAFETY: a plain system call on a descriptor of ours.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), size) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Self::map(fd, len)
    }

    /// Map what another process, or another mapping, made.
    ///
    /// # Errors
    /// What the system says: the descriptor is closed, or not one of memory.
    pub fn attach(fd: RawFd) -> io::Result<Self> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: borrowed for this call; a closed one is an error of `dup`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        let file = std::fs::File::from(fd);
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Self::map(file.into(), len)
    }

    fn map(fd: OwnedFd, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { fd, address, len })
    }

    /// Its descriptor, open as long as this lives.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// How many bytes are mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are mapped: never, for the system maps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the mapping starts, valid as long as this lives.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Touch the first `bytes` now, so that their first use costs nothing.
    ///
    /// # Errors
    /// What the system says, as when there is no memory left.
    pub fn populate(&self, bytes: usize) -> io::Result<()> {
        let len = bytes.min(self.len).next_multiple_of(PAGE);
        if len == 0 {
            return Ok(());
        }
        self.advise(0, len, libc::MADV_POPULATE_WRITE)
    }

    /// Give the whole pages of `start..stop` back to the machine; they read as zero afterwards.
    /// Gives how many bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn discard(&self, start: usize, stop: usize) -> io::Result<usize> {
        let start = start.next_multiple_of(PAGE);
        let stop = stop.min(self.len) / PAGE * PAGE;
        if start >= stop {
            return Ok(0);
        }
        self.advise(start, stop - start, libc::MADV_REMOVE)?;
        Ok(stop - start)
    }

    fn advise(&self, start: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
        let address = self.address.as_ptr().wrapping_add(start);
        // SAFETY: `start..start + len` lies in our own mapping; its callers see to that.
        if unsafe { libc::madvise(address.cast(), len, advice) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Take the pages from one NUMA node; nothing to do on a machine with one.
    ///
    /// # Errors
    /// `InvalidInput` for a node the machine lacks, else what the system says.
    pub fn bind(&self, node: usize) -> io::Result<Binding> {
        let nodes = numa::nodes();
        if !nodes.contains(&node) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("there is no NUMA node {node}; this machine has {nodes:?}"),
            ));
        }
        if nodes.len() == 1 {
            return Ok(Binding::OneNode);
        }
        self.mbind(node)?;
        Ok(Binding::Node(node))
    }

    fn mbind(&self, node: usize) -> io::Result<()> {
        let mask = numa::mask(node)?;
        // SAFETY: the range is our own mapping, and the kernel reads no more of the mask than the
        // bits said, less one (see mbind(2)).
        let code = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.address.as_ptr(),
                self.len,
                MPOL_BIND,
                mask.as_ptr(),
                mask.len() * 64 + 1,
                0,
            )
        };
        if code < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing uses after this.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_see_the_same_bytes_until_they_are_discarded() {
        let one = Memory::create(10_000).unwrap();
        let other = Memory::attach(one.fd()).unwrap();
        assert_eq!((one.len(), other.len()), (12_288, 12_288));
        one.populate(5000).unwrap();

        // SAFETY: both mappings have 12,288 bytes, and nobody else has them.
        unsafe {
            one.address().add(4096).write(7);
            assert_eq!(other.address().add(4096).read(), 7);
        }
        assert_eq!(one.discard(1, 12_288).unwrap(), 8192);
        // SAFETY: as above.
        assert_eq!(unsafe { other.address().add(4096).read() }, 0);
    }

    #[test]
    fn a_descriptor_that_is_no_memory_is_refused() {
        assert!(Memory::attach(-1).is_err());
        assert!(Memory::attach(9999).is_err());
    }

    #[test]
    fn a_node_that_is_not_there_is_refused() {
        let memory = Memory::create(4096).unwrap();
        assert_eq!(
            memory.bind(4000).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert!(memory.mbind(4000).is_err());
        let first = numa::nodes()[0];
        assert!(memory.bind(first).is_ok());
    }
}
