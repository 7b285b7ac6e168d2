//! A reading position in a header, which knows the file's length and what part is at hand.

use crate::error::{Error, ErrorKind, error};
use crate::strings::Strings;
use crate::value::ValueType;
use alloc::string::String;
use alloc::vec::Vec;

/// Reads little-endian fields from `head`, the first bytes of a file of `file_len` bytes.
pub(crate) struct Cursor<'a> {
    head: &'a [u8],
    file_len: u64,
    /// Never past `head.len()`.
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// `head` must not be longer than `file_len`.
    pub(crate) fn new(head: &'a [u8], file_len: u64) -> Self {
        Self {
            head,
            file_len,
            pos: 0,
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.pos as u64
    }

    /// Checks that `count` items of at least `bytes_each` can follow, without reading them:
    /// in the file, and in the part at hand.
    pub(crate) fn expect(&self, count: u64, bytes_each: u64, what: &str) -> Result<(), Error> {
        let end = count
            .checked_mul(bytes_each)
            .and_then(|bytes| bytes.checked_add(self.offset()));
        match end {
            Some(end) if end <= self.head.len() as u64 => Ok(()),
            Some(end) if end <= self.file_len => Err(error!(
                ErrorKind::NeedMore { bytes: end },
                "{what} needs the file's first {end} bytes, {} are at hand; pass a longer part of the file",
                self.head.len()
            )
            .at(self.offset())),
            _ => Err(error!(
                ErrorKind::Truncated,
                "{what} ({count} of at least {bytes_each} bytes) reaches past the file's end at {}; the file is cut short or damaged, fetch it again",
                self.file_len
            )
            .at(self.offset())),
        }
    }

    pub(crate) fn bytes(&mut self, len: u64, what: &str) -> Result<&'a [u8], Error> {
        self.expect(len, 1, what)?;
        // `expect` has shown that pos + len is at most head.len(), so it fits usize.
        let end = self.pos + len as usize;
        let bytes = &self.head[self.pos..end];
        self.pos = end;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let bytes = self.bytes(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        Ok(out)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A u64 length and that many bytes, at most `bytes_max`.
    fn text_bytes(&mut self, bytes_max: u64, what: &str) -> Result<&'a [u8], Error> {
        let start = self.offset();
        let len = self.u64(what)?;
        if len > bytes_max {
            return Err(error!(
                ErrorKind::TooLarge,
                "{what} states a length of {len} bytes, the limit is {bytes_max}; the file is damaged"
            )
            .at(start));
        }
        self.bytes(len, what)
    }

    /// A u64 length and that many bytes of UTF-8, at most `bytes_max`.
    fn text(&mut self, bytes_max: u64, what: &str) -> Result<&'a str, Error> {
        let start = self.offset();
        let bytes = self.text_bytes(bytes_max, what)?;
        core::str::from_utf8(bytes).map_err(|cause| {
            error!(
                ErrorKind::Malformed,
                "{what} is no UTF-8 after its first {} bytes; the file is damaged",
                cause.valid_up_to()
            )
            .at(start)
        })
    }

    /// [`Self::text`], copied.
    pub(crate) fn string(&mut self, bytes_max: u64, what: &str) -> Result<String, Error> {
        let text = self.text(bytes_max, what)?;
        let mut owned = String::new();
        owned
            .try_reserve_exact(text.len())
            .map_err(|_| self.refused(text.len() as u64))?;
        owned.push_str(text);
        Ok(owned)
    }

    /// `count` strings, each at most `bytes_max` long. The caller has shown that so many can be there.
    pub(crate) fn strings(
        &mut self,
        count: u64,
        bytes_max: u64,
        what: &str,
    ) -> Result<Strings, Error> {
        let mut ahead = Self { ..*self };
        let mut text_bytes = 0;
        for _ in 0..count {
            text_bytes += ahead.text_bytes(bytes_max, what)?.len();
        }
        // What was shown makes `count` fit usize.
        let mut strings = Strings::with_room(count as usize, text_bytes)
            .ok_or_else(|| self.refused(text_bytes as u64))?;
        for _ in 0..count {
            strings.push(self.text(bytes_max, what)?);
        }
        Ok(strings)
    }

    /// An empty vector with room for `count` items that take at least `bytes_each` bytes in
    /// the file, after checking that they can be there.
    pub(crate) fn reserve<T>(
        &self,
        count: u64,
        bytes_each: u64,
        what: &str,
    ) -> Result<Vec<T>, Error> {
        self.expect(count, bytes_each, what)?;
        let mut items = Vec::new();
        // `expect` has shown that count is at most head.len().
        items
            .try_reserve_exact(count as usize)
            .map_err(|_| self.refused(count.saturating_mul(size_of::<T>() as u64)))?;
        Ok(items)
    }

    /// `count` scalars of `N` bytes each.
    pub(crate) fn scalars<const N: usize, T>(
        &mut self,
        count: u64,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut items = self.reserve(count, N as u64, "an array")?;
        let bytes = self.bytes(count * N as u64, "an array")?;
        let (chunks, _) = bytes.as_chunks::<N>();
        items.extend(chunks.iter().map(|&chunk| decode(chunk)));
        Ok(items)
    }

    pub(crate) fn value_type(&mut self, what: &str) -> Result<ValueType, Error> {
        let start = self.offset();
        ValueType::try_from(self.u32(what)?).map_err(|cause| cause.at(start))
    }

    fn refused(&self, bytes: u64) -> Error {
        error!(
            ErrorKind::OutOfMemory,
            "no memory for {bytes} bytes; free some, or choose a smaller model"
        )
        .at(self.offset())
    }
}
