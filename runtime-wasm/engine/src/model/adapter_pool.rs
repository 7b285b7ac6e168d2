//! Adapters by name, as many as fit a budget of bytes: the least recently used
//! make room.
//!
//! Whoever calls keeps the files and loads an adapter again when it is asked
//! for after it was dropped. A session that uses an adapter shares its
//! weights, so dropping it here takes nothing away from a reply in the making.

use super::adapter::Adapter;
use crate::error::{Error, Result};

/// Named adapters of one model, the least recently used first.
#[derive(Debug)]
pub struct AdapterPool {
    entries: Vec<(String, Adapter)>,
    bytes_max: usize,
}

impl AdapterPool {
    /// An empty pool for at most `bytes_max` bytes of weights.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes_max,
        }
    }

    /// Bytes that the adapters take together.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.entries.iter().map(|(_, a)| a.memory_bytes()).sum()
    }

    /// The names, the least recently used first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Keeps `adapter` under `name`, in the place of one of that name, and
    /// drops as many others as must go.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) when it alone is beyond the budget.
    pub fn insert(&mut self, name: String, adapter: Adapter) -> Result<()> {
        let bytes = adapter.memory_bytes();
        if bytes > self.bytes_max {
            return Err(Error::out_of_memory(format!(
                "the adapter {name} takes {bytes} bytes, more than the {} that adapters may take together",
                self.bytes_max
            )));
        }
        self.remove(&name);
        while self.memory_bytes() > self.bytes_max - bytes {
            self.entries.remove(0);
        }
        self.entries.push((name, adapter));
        Ok(())
    }

    /// Drops the adapter `name`; false when there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(other, _)| other != name);
        self.entries.len() != before
    }

    /// The adapter `name`, which becomes the most recently used.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when it is not there.
    pub fn get(&mut self, name: &str) -> Result<Adapter> {
        match self.entries.iter().position(|(other, _)| other == name) {
            Some(at) => {
                self.entries[at..].rotate_left(1);
                Ok(self.entries[self.entries.len() - 1].1.clone())
            }
            None => Err(Error::invalid_request(format!(
                "the adapter {name} is not in memory; load it first, and no more for one request than {} bytes hold",
                self.bytes_max
            ))),
        }
    }
}
