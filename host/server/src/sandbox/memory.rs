//! The linear memory of an instance: an image, mapped privately, with room to grow behind it.
//!
//! ```text
//! base                    base + len            base + reserved (4 GiB)    + guard
//! | image, copied on write | zero, once grown   | no access ...................|
//! ```
//!
//! All that a 32-bit address and an offset can reach is reserved, so compiled code needs no bounds
//! checks: what lies beyond the length has no access rights, and touching it is a trap.

#![expect(
    unsafe_code,
    reason = "wasmtime takes memory of one's own only through unsafe traits, and mapping is unsafe"
)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::image::Image;

thread_local! {
    // wasmtime asks for a memory without saying for whom. Instances are made on the thread that
    // asks for them, so what is set here is meant for the memory that comes next.
    static NEXT: RefCell<Option<Arc<Image>>> = const { RefCell::new(None) };
}

/// Runs `instantiate`, whose one memory springs from `image`.
pub(super) fn from_image<T>(image: &Arc<Image>, instantiate: impl FnOnce() -> T) -> T {
    NEXT.set(Some(Arc::clone(image)));
    let made = instantiate();
    // It was taken, unless the instance failed before it had a memory.
    NEXT.take();
    made
}

/// Gives memories to wasmtime.
pub(super) struct Memories;

// SAFETY: every memory is a mapping of its own, from its `Linear`'s birth to its drop; it reserves
// what is asked for and the guard, never moves, and beyond `byte_size` it has no access rights. Its
// contents are the image's, which is what the caller of `from_image` instantiates for, and zero
// behind them.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let image = NEXT
            .take()
            .ok_or("a memory was asked for outside of an instantiation")?;
        let reserved = reserved.ok_or("memories are of a fixed place only")?;
        if image.bytes() < minimum || image.bytes() > reserved {
            return Err("the image is not one of this module".to_owned());
        }
        let linear = Linear::new(&image, reserved, guard).map_err(|e| e.to_string())?;
        Ok(Box::new(linear))
    }
}

/// One mapping.
struct Linear {
    base: NonNull<c_void>,
    /// Bytes that can be used.
    len: usize,
    /// Bytes that can come to be used.
    reserved: usize,
    /// Bytes of the mapping, the guard included.
    mapped: usize,
}

// SAFETY: the mapping belongs to this value alone and is tied to no thread.
unsafe impl Send for Linear {}
// SAFETY: by a shared reference nothing but numbers can be read; the memory itself is guarded by
// wasmtime's store.
unsafe impl Sync for Linear {}

impl Linear {
    fn new(image: &Image, reserved: usize, guard: usize) -> io::Result<Self> {
        let mapped = reserved
            .checked_add(guard)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at a place of the system's choice touches none that exists.
        let base = unsafe { mmap_anonymous(null_mut(), mapped, ProtFlags::empty(), flags)? };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        // From here on the mapping goes when this value does.
        let mut linear = Self {
            base,
            len: 0,
            reserved,
            mapped,
        };
        linear.allow(image.bytes())?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        for part in image.parts() {
            let place = linear.at(part.at, part.len)?;
            // SAFETY: the place is `part.len` bytes inside this value's own mapping, which nobody
            // uses yet. The file is an image's, which is sealed: it never shrinks, so no page of
            // the mapping can come to lack its bytes.
            unsafe {
                let flags = flags | MapFlags::FIXED;
                mmap(place, part.len, access, flags, part.file, part.offset)?;
            }
        }
        Ok(linear)
    }

    /// The address of `len` bytes at `at`.
    fn at(&self, at: usize, len: usize) -> io::Result<*mut c_void> {
        match at.checked_add(len) {
            Some(end) if end <= self.reserved => Ok(self.base.as_ptr().wrapping_byte_add(at)),
            _ => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// Makes the first `len` bytes usable; those that were not yet are zero.
    fn allow(&mut self, len: usize) -> io::Result<()> {
        if let Some(more) = len.checked_sub(self.len).filter(|&more| more > 0) {
            let place = self.at(self.len, more)?;
            // SAFETY: the place lies inside this value's own mapping, and only gains rights.
            unsafe { mprotect(place, more, MprotectFlags::READ | MprotectFlags::WRITE)? };
            self.len = len;
        }
        Ok(())
    }
}

// SAFETY: as said at `Memories`: `as_ptr` is the base of `byte_size` readable and writable bytes,
// and growth up to `byte_capacity` leaves it where it is.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.len
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        self.allow(new_size).map_err(wasmtime::Error::new)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and wasmtime drops a memory after its last use.
        let unmapped = unsafe { munmap(self.base.as_ptr(), self.mapped) };
        if let Err(error) = unmapped {
            tracing::error!("a sandbox's memory could not be given back: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::PAGE_BYTES;
    use super::*;

    const RESERVED: usize = 1 << 32;

    fn bytes(linear: &mut Linear) -> &mut [u8] {
        // SAFETY: `byte_size` bytes at `as_ptr` are readable and writable, see `Linear`.
        unsafe { std::slice::from_raw_parts_mut(linear.as_ptr(), linear.byte_size()) }
    }

    #[test]
    fn what_one_writes_no_other_sees() -> io::Result<()> {
        let mut contents = vec![1; 2 * PAGE_BYTES];
        let root = Image::new(&contents)?;
        contents[PAGE_BYTES] = 9;
        contents.resize(3 * PAGE_BYTES, 0);
        let over = root.over(&contents)?;

        let mut first = Linear::new(&over, RESERVED, PAGE_BYTES)?;
        assert_eq!(bytes(&mut first), contents);
        bytes(&mut first).fill(5);
        let mut second = Linear::new(&over, RESERVED, PAGE_BYTES)?;
        assert_eq!(bytes(&mut second), contents);
        let mut third = Linear::new(&root, RESERVED, PAGE_BYTES)?;
        assert_eq!(bytes(&mut third), [1; 2 * PAGE_BYTES]);

        third.grow_to(4 * PAGE_BYTES).expect("there is room");
        assert_eq!(bytes(&mut third)[2 * PAGE_BYTES..], [0; 2 * PAGE_BYTES]);
        assert!(third.grow_to(RESERVED + PAGE_BYTES).is_err());
        assert_eq!(third.byte_size(), 4 * PAGE_BYTES);
        Ok(())
    }
}
