//! Images of a guest's memory, from which instances spring.
//!
//! An image is a file in memory that has no name (Linux's memfd). Instances map it privately: they
//! read the same pages of RAM, and the kernel copies a page for whoever writes to it first.
//!
//! ```text
//! root       | engine | weights | tokenizer | session |      of a loaded model
//! overlay      [ ]                            [ ]   [ adapter ]   pages in which an image over it differs
//! instance   | ...................................... private from the first write on
//! ```
//!
//! An image over another holds only what differs, so that a model with an adapter costs the adapter.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A page of WebAssembly. The system's, 4 to 64 KiB, are parts of it.
pub(super) const PAGE_BYTES: usize = 1 << 16;

/// The contents of a guest's memory at one moment. Never changes.
#[derive(Debug)]
pub struct Image {
    root: Arc<Root>,
    overlay: Option<Overlay>,
    len: usize,
}

#[derive(Debug)]
struct Root {
    file: File,
    len: usize,
}

/// Pages that differ from the root's, one run after the other in one file.
#[derive(Debug)]
struct Overlay {
    file: File,
    runs: Vec<Run>,
}

/// `len` bytes of memory at `at`, in the file at `offset`; all multiples of the system's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    at: usize,
    len: usize,
    offset: u64,
}

/// A part of an image: `len` bytes of `file` from `offset`, to be mapped at `at`.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
    pub(super) at: usize,
    pub(super) len: usize,
}

impl Image {
    /// An image of `contents`, a multiple of [`PAGE_BYTES`] long.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(super) fn new(contents: &[u8]) -> io::Result<Self> {
        let file = unnamed_file(contents.len())?;
        write(&file, contents, 0)?;
        seal(&file)?;
        let len = contents.len();
        Ok(Self {
            root: Arc::new(Root { file, len }),
            overlay: None,
            len,
        })
    }

    /// An image of `contents` that shares with this one's root what is the same in both.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(super) fn over(&self, contents: &[u8]) -> io::Result<Self> {
        let runs = self.root.differing(contents)?;
        let file = unnamed_file(runs.iter().map(|run| run.len).sum())?;
        for run in &runs {
            let bytes = contents.get(run.at..run.at + run.len);
            write(&file, bytes.unwrap_or_default(), run.offset)?;
        }
        seal(&file)?;
        Ok(Self {
            root: Arc::clone(&self.root),
            overlay: Some(Overlay { file, runs }),
            len: contents.len(),
        })
    }

    /// Bytes of the memory.
    pub fn bytes(&self) -> usize {
        self.len
    }

    /// Bytes that this image takes beyond its root; of a root, its own.
    pub fn own_bytes(&self) -> usize {
        match &self.overlay {
            Some(overlay) => overlay.runs.iter().map(|run| run.len).sum(),
            None => self.root.len,
        }
    }

    /// What is to be mapped, in this order: later parts lie over earlier ones.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let root = Part {
            file: &self.root.file,
            offset: 0,
            at: 0,
            len: self.root.len,
        };
        let runs = self.overlay.iter().flat_map(|overlay| {
            let part = |run: &Run| Part {
                file: &overlay.file,
                offset: run.offset,
                at: run.at,
                len: run.len,
            };
            overlay.runs.iter().map(part)
        });
        std::iter::once(root).chain(runs)
    }
}

impl Root {
    /// The pages of `contents` that are not the root's, neighbours together. Behind the root's end
    /// memory is zero. `contents` is never shorter: WebAssembly's memory does not shrink.
    fn differing(&self, contents: &[u8]) -> io::Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut offset = 0;
        let page_bytes = rustix::param::page_size();
        let mut page = vec![0; page_bytes];
        for (index, found) in contents.chunks_exact(page_bytes).enumerate() {
            let at = index * page_bytes;
            if at < self.len {
                self.file.read_exact_at(&mut page, at as u64)?;
            } else {
                page.fill(0);
            }
            if found == page {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.at + run.len == at => run.len += page_bytes,
                _ => runs.push(Run {
                    at,
                    len: page_bytes,
                    offset,
                }),
            }
            offset += page_bytes as u64;
        }
        Ok(runs)
    }
}

/// Writes `bytes` at `offset` of an empty file; zeros are left out, so they take no memory.
fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    for (chunk, at) in bytes.chunks(4096).zip((offset..).step_by(4096)) {
        if chunk.iter().any(|&byte| byte != 0) {
            file.write_all_at(chunk, at)?;
        }
    }
    Ok(())
}

/// A file of `len` zero bytes that goes with its handle.
fn unnamed_file(len: usize) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    let file = {
        use rustix::fs::{MemfdFlags, memfd_create};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        File::from(memfd_create("meetara-image", flags)?)
    };
    #[cfg(not(target_os = "linux"))]
    let file = {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("meetara-image-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        file
    };
    file.set_len(len as u64)?;
    Ok(file)
}

/// From now on nobody can change the file, this program included.
fn seal(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{SealFlags, fcntl_add_seals};
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(file, seals)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_over_another_holds_only_what_differs() -> io::Result<()> {
        let mut contents = vec![0; 4 * PAGE_BYTES];
        contents[7] = 1;
        let root = Image::new(&contents)?;
        assert_eq!(
            (root.bytes(), root.own_bytes()),
            (4 * PAGE_BYTES, 4 * PAGE_BYTES)
        );

        let page_bytes = rustix::param::page_size();
        contents[PAGE_BYTES] = 2;
        contents[PAGE_BYTES + 2 * page_bytes - 1] = 3;
        contents.resize(7 * PAGE_BYTES, 0);
        contents[6 * PAGE_BYTES] = 4;
        let over = root.over(&contents)?;
        assert_eq!(
            (over.bytes(), over.own_bytes()),
            (7 * PAGE_BYTES, 3 * page_bytes)
        );
        let places: Vec<_> = over.parts().map(|part| (part.at, part.len)).collect();
        assert_eq!(
            places,
            [
                (0, 4 * PAGE_BYTES),
                (PAGE_BYTES, 2 * page_bytes),
                (6 * PAGE_BYTES, page_bytes)
            ]
        );

        // Put together again, they are what they were made of.
        let mut again = vec![0; over.bytes()];
        for part in over.parts() {
            let bytes = &mut again[part.at..part.at + part.len];
            part.file.read_exact_at(bytes, part.offset)?;
        }
        assert_eq!(again, contents);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_image_cannot_be_changed() -> io::Result<()> {
        let image = Image::new(&[1; PAGE_BYTES])?;
        let part = image.parts().next().expect("the root");
        assert!(part.file.write_all_at(&[2], 0).is_err());
        assert!(part.file.set_len(0).is_err());
        Ok(())
    }
}
