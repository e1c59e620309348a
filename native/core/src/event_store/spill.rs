//! Epochs that had to leave memory: a file each, checked by its BLAKE3 digest when it comes back.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use wincode::{SchemaRead, SchemaWrite};

use crate::hash::{Digest, digest, digest_parts};

/// "NCE" and a zero.
pub const MAGIC: [u8; 4] = *b"NCE\0";
const HEAD_SIZE: usize = 32;

/// What a file begins with, in bincode's legacy encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaWrite, SchemaRead)]
#[cfg_attr(test, derive(bincode::Encode))]
pub struct SpillHeader {
    /// `MAGIC`
    pub magic: [u8; 4],
    /// 1
    pub version: u32,
    /// Whose events follow.
    pub epoch: u64,
    /// How many.
    pub events: u64,
    /// Bytes of them, encoded as the caller chose.
    pub body: u64,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spilled {
    /// Of the whole file: its content id.
    pub digest: Digest,
    /// How many events it holds.
    pub events: usize,
    /// Its size.
    pub bytes: usize,
}

/// Why an epoch cannot be written or read.
#[derive(Debug)]
pub enum SpillError {
    /// The file system refuses.
    Io(PathBuf, io::Error),
    /// The file is not the one that was written.
    Damaged(PathBuf),
    /// No such epoch has been written.
    Unknown(u64),
    /// The files are those of the process with this number, from which this one was forked.
    Forked(u32),
}

impl fmt::Display for SpillError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(to, "{}: {error}", path.display()),
            Self::Damaged(path) => write!(
                to,
                "{} is not the file that was written there: its BLAKE3 digest differs",
                path.display()
            ),
            Self::Unknown(epoch) => write!(to, "epoch {epoch} has not been written"),
            Self::Forked(owner) => write!(
                to,
                "the files are of process {owner}; a process that was forked from it needs a store of its own"
            ),
        }
    }
}

/// A folder with a file for each epoch that is not in memory; it goes when this is dropped.
#[derive(Debug)]
pub struct SpillFolder {
    folder: PathBuf,
    /// The process that made it: what is forked from it leaves the files alone.
    owner: u32,
    files: HashMap<u64, Spilled>,
    events: usize,
    bytes: usize,
}

impl SpillFolder {
    /// Make a folder of its own within `within`, which is made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(within: &Path) -> Result<Self, SpillError> {
        fs::create_dir_all(within).map_err(|error| SpillError::Io(within.to_path_buf(), error))?;
        let owner = process::id();
        let mut number = 0_u64;
        let folder = loop {
            let folder = within.join(format!("store-{owner}-{number}"));
            match fs::create_dir(&folder) {
                Ok(()) => break folder,
                // of another store, or left by a process that was killed
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(SpillError::Io(folder, error)),
            }
        };
        Ok(Self {
            folder,
            owner,
            files: HashMap::new(),
            events: 0,
            bytes: 0,
        })
    }

    /// Write an epoch's events; a file of it that is there is replaced.
    ///
    /// # Errors
    /// It cannot be written; the file that was there stays.
    pub fn write(&mut self, epoch: u64, events: usize, body: &[u8]) -> Result<Spilled, SpillError> {
        if process::id() != self.owner {
            return Err(SpillError::Forked(self.owner));
        }
        let header = SpillHeader {
            magic: MAGIC,
            version: 1,
            epoch,
            events: events as u64,
            body: body.len() as u64,
        };
        let path = self.path(epoch);
        let head = wincode::serialize(&header)
            .map_err(|error| SpillError::Io(path.clone(), io::Error::other(error.to_string())))?;
        let draft = path.with_extension("draft");
        let written = [&head[..], body].concat();
        let failed = |error| SpillError::Io(path.clone(), error);
        fs::write(&draft, &written).map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)?;
        let made = Spilled {
            digest: digest_parts(&[&head, body]),
            events,
            bytes: written.len(),
        };
        self.forget(epoch);
        self.events += events;
        self.bytes += made.bytes;
        self.files.insert(epoch, made);
        Ok(made)
    }

    /// Read an epoch's events back as they were given.
    ///
    /// # Errors
    /// There is no such file, or it is not the one that was written.
    pub fn read(&self, epoch: u64) -> Result<Vec<u8>, SpillError> {
        let known = self.files.get(&epoch).ok_or(SpillError::Unknown(epoch))?;
        let path = self.path(epoch);
        let mut data = fs::read(&path).map_err(|error| SpillError::Io(path.clone(), error))?;
        if data.len() != known.bytes || digest(&data) != known.digest {
            return Err(SpillError::Damaged(path));
        }
        Ok(data.split_off(HEAD_SIZE))
    }

    /// Delete an epoch's file, if there is one; a process that was forked only forgets it.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn remove(&mut self, epoch: u64) -> Result<bool, SpillError> {
        if self.forget(epoch).is_none() {
            return Ok(false);
        }
        if process::id() == self.owner {
            let path = self.path(epoch);
            fs::remove_file(&path).map_err(|error| SpillError::Io(path, error))?;
        }
        Ok(true)
    }

    /// What is known of an epoch's file.
    #[must_use]
    pub fn get(&self, epoch: u64) -> Option<Spilled> {
        self.files.get(&epoch).copied()
    }

    /// The epochs that have a file.
    pub fn epochs(&self) -> impl Iterator<Item = u64> {
        self.files.keys().copied()
    }

    /// How many events the files hold.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// How large the files are together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, epoch: u64) -> Option<Spilled> {
        let known = self.files.remove(&epoch)?;
        self.events -= known.events;
        self.bytes -= known.bytes;
        Some(known)
    }

    /// Where an epoch's file is, or would be.
    #[must_use]
    pub fn path(&self, epoch: u64) -> PathBuf {
        self.folder.join(format!("epoch-{epoch}.events"))
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if process::id() == self.owner {
            // nobody is left to be told that it cannot be removed
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let made = std::env::temp_dir().join(format!("noob-spill-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&made);
        made
    }

    #[test]
    fn an_epoch_comes_back_as_it_was_given() {
        let at = folder("back");
        let mut spill = SpillFolder::new(&at).unwrap();
        let made = spill.write(3, 2, b"two events").unwrap();
        assert_eq!(spill.read(3).unwrap(), b"two events");
        assert_eq!((spill.events(), spill.bytes()), (2, made.bytes));
        spill.write(3, 5, b"five").unwrap();
        assert_eq!(
            (spill.events(), spill.read(3).unwrap()),
            (5, b"five".to_vec())
        );
        assert!(spill.remove(3).unwrap());
        assert!(!spill.remove(3).unwrap());
        assert!(matches!(spill.read(3), Err(SpillError::Unknown(3))));
        drop(spill);
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn two_stores_in_one_folder_keep_apart_and_each_takes_its_files_along() {
        let at = folder("apart");
        let (mut one, mut two) = (
            SpillFolder::new(&at).unwrap(),
            SpillFolder::new(&at).unwrap(),
        );
        one.write(7, 1, b"one").unwrap();
        two.write(7, 1, b"two").unwrap();
        assert_eq!(one.read(7).unwrap(), b"one");
        drop(one);
        assert_eq!(two.read(7).unwrap(), b"two");
        drop(two);
        fs::remove_dir(at).unwrap();
    }

    #[test]
    fn a_process_that_was_forked_leaves_the_files_alone() {
        let at = folder("forked");
        let mut spill = SpillFolder::new(&at).unwrap();
        spill.write(1, 1, b"body").unwrap();
        let (path, owner) = (spill.path(1), spill.owner);
        spill.owner += 1; // as the other process sees it
        assert_eq!(spill.read(1).unwrap(), b"body");
        assert!(
            matches!(spill.write(2, 1, b"x"), Err(SpillError::Forked(found)) if found != owner)
        );
        assert!(spill.remove(1).unwrap());
        drop(spill);
        assert!(fs::metadata(path).unwrap().is_file());
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn a_file_that_was_changed_is_refused() {
        let at = folder("changed");
        let mut spill = SpillFolder::new(&at).unwrap();
        spill.write(1, 1, b"body").unwrap();
        let path = spill.path(1);
        let mut data = fs::read(&path).unwrap();
        data[HEAD_SIZE] ^= 1;
        fs::write(&path, &data).unwrap();
        assert!(matches!(spill.read(1), Err(SpillError::Damaged(_))));
        fs::write(&path, b"").unwrap();
        assert!(matches!(spill.read(1), Err(SpillError::Damaged(_))));
        fs::remove_dir_all(at).unwrap();
    }

    proptest! {
        #[test]
        fn heads_are_what_bincode_writes(epoch: u64, events: u64, body: u64) {
            let header = SpillHeader { magic: MAGIC, version: 1, epoch, events, body };
            let bincode = bincode::encode_to_vec(header, bincode::config::legacy()).unwrap();
            let ours = wincode::serialize(&header).unwrap();
            prop_assert_eq!(ours.len(), HEAD_SIZE);
            prop_assert_eq!(&ours, &bincode);
            prop_assert_eq!(wincode::deserialize::<SpillHeader>(&bincode).unwrap(), header);
        }
    }
}
