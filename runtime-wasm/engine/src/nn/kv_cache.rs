//! Keys and values of the positions seen so far: as IEEE halves, as bytes, or in full.
//!
//! Memory comes in pages of [`PAGE_LEN`] positions, taken when a position
//! first needs them and kept until the cache is dropped, so a short chat with
//! a model of a long context stays small. A page of one layer is one allocation:
//!
//! ```text
//! page   (K then V, KV head)   u16, i8 or f32, of each
//! K      (PAGE_LEN / 16, head_dim, 16)
//! V      (PAGE_LEN, head_dim)
//! ```
//!
//! so that the positions of one head lie next to one another, which is how
//! attention reads them. Keys are woven together, as the kernels take them.
//! With all layers in one allocation, WebAssembly's memory, which grows by 64 KiB,
//! would have up to that much unused behind each: 448 KiB for 512 positions of eight pages.
//!
//! Bytes have a scale for each vector, in an allocation of their own: (K then V,
//! KV head, PAGE_LEN). As in Q8_0 it is a half, and what it stands for
//! is what quantising divides by.

use super::memory;
use crate::error::Result;
use crate::kernels::math::round_half_even;
use crate::kernels::{KEY_GROUP, Kernels, scalar};

/// Positions in a page, a multiple of [`KEY_GROUP`].
pub const PAGE_LEN: usize = 64;
/// Elements of a key that are woven in at once.
const KEY_PART: usize = 32;

/// Which of the two halves of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Keys.
    Key,
    /// Values.
    Value,
}

/// How an element is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// IEEE half: two bytes, rounded to 11 bits.
    #[default]
    F16,
    /// One byte, and a half for each head of a position: little more than half of F16's memory.
    Q8,
    /// Four bytes, as computed; for comparing an engine with a trainer.
    F32,
}

impl KvType {
    const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::Q8 => 1,
            Self::F32 => 4,
        }
    }
}

/// The pages of one type, those of all layers one after the other: (page, layer).
#[derive(Debug)]
enum Pages {
    F16(Vec<Vec<u16>>),
    /// With the scales.
    Q8(Vec<(Vec<i8>, Vec<u16>)>),
    F32(Vec<Vec<f32>>),
}

impl Pages {
    fn new(ty: KvType, pages_max: usize) -> Result<Self> {
        fn list<T: Clone + Default>(pages_max: usize) -> Result<Vec<T>> {
            let mut pages = memory::zeroed(pages_max, "the list of KV pages")?;
            pages.clear();
            Ok(pages)
        }
        Ok(match ty {
            KvType::F16 => Self::F16(list(pages_max)?),
            KvType::Q8 => Self::Q8(list(pages_max)?),
            KvType::F32 => Self::F32(list(pages_max)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::F16(pages) => pages.len(),
            Self::Q8(pages) => pages.len(),
            Self::F32(pages) => pages.len(),
        }
    }

    /// A page of `elements` in vectors of `dim`.
    fn push(&mut self, elements: usize, dim: usize) -> Result<()> {
        const WHAT: &str = "a page of the KV cache";
        match self {
            Self::F16(pages) => pages.push(memory::zeroed(elements, WHAT)?),
            Self::Q8(pages) => pages.push((
                memory::zeroed(elements, WHAT)?,
                memory::zeroed(elements / dim, WHAT)?,
            )),
            Self::F32(pages) => pages.push(memory::zeroed(elements, WHAT)?),
        }
        Ok(())
    }
}

/// The cache of one conversation.
#[derive(Debug)]
pub struct KvCache {
    pages: Pages,
    n_layer: usize,
    n_head_kv: usize,
    head_dim: usize,
    len_max: usize,
}

impl KvCache {
    /// An empty cache for at most `len_max` positions.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(
        ty: KvType,
        n_layer: usize,
        n_head_kv: usize,
        head_dim: usize,
        len_max: usize,
    ) -> Result<Self> {
        memory::product(
            &[n_layer, 2, n_head_kv, PAGE_LEN, head_dim, ty.bytes()],
            "a page of the KV cache",
        )?;
        Ok(Self {
            pages: Pages::new(ty, len_max.div_ceil(PAGE_LEN) * n_layer)?,
            n_layer,
            n_head_kv,
            head_dim,
            len_max,
        })
    }

    /// The most positions.
    #[must_use]
    pub fn len_max(&self) -> usize {
        self.len_max
    }

    /// Takes the pages that positions `0..len` need.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        assert!(len <= self.len_max);
        let page = 2 * self.n_head_kv * PAGE_LEN * self.head_dim;
        while self.pages.len() < len.div_ceil(PAGE_LEN) * self.n_layer {
            self.pages.push(page, self.head_dim)?;
        }
        Ok(())
    }

    /// Where head `head` of `side` starts in its page.
    fn start(&self, side: Side, head: usize) -> usize {
        (side as usize * self.n_head_kv + head) * PAGE_LEN * self.head_dim
    }

    /// Stores the vectors `x` (n, n_head_kv * head_dim) of positions `first..first + n`,
    /// which [`Self::reserve`] has made room for.
    pub fn store(&mut self, kernels: &Kernels, layer: usize, side: Side, first: usize, x: &[f32]) {
        let dim = self.head_dim;
        for (position, x) in (first..).zip(x.chunks_exact(self.n_head_kv * dim)) {
            let page = position / PAGE_LEN * self.n_layer + layer;
            let row = position % PAGE_LEN;
            for (head, x) in x.chunks_exact(dim).enumerate() {
                let start = self.start(side, head);
                match (&mut self.pages, side) {
                    (Pages::F16(pages), Side::Key) => {
                        let mut keys = weave(&mut pages[page][start..], row, dim);
                        for x in x.chunks(KEY_PART) {
                            let mut halves = [0; KEY_PART];
                            let halves = &mut halves[..x.len()];
                            (kernels.f32_to_f16)(x, halves);
                            halves.iter().zip(&mut keys).for_each(|(x, key)| *key = *x);
                        }
                    }
                    (Pages::F16(pages), Side::Value) => {
                        (kernels.f32_to_f16)(x, &mut pages[page][start + row * dim..][..dim]);
                    }
                    (Pages::Q8(pages), _) => {
                        let (quants, scales) = &mut pages[page];
                        let (scale, inverse) = byte_scale(kernels, x);
                        scales[start / dim + row] = scale;
                        let bytes = x.iter().map(|&x| to_byte(x, inverse));
                        if side == Side::Key {
                            let keys = weave(&mut quants[start..], row, dim);
                            bytes.zip(keys).for_each(|(x, key)| *key = x);
                        } else {
                            let values = &mut quants[start + row * dim..][..dim];
                            bytes.zip(values).for_each(|(x, value)| *value = x);
                        }
                    }
                    (Pages::F32(pages), Side::Key) => {
                        let keys = weave(&mut pages[page][start..], row, dim);
                        x.iter().zip(keys).for_each(|(x, key)| *key = *x);
                    }
                    (Pages::F32(pages), Side::Value) => {
                        pages[page][start + row * dim..][..dim].copy_from_slice(x);
                    }
                }
            }
        }
    }

    /// The vectors of head `head` in page `page`, as `f32` and as they lie there: `out` is
    /// (n, head_dim), for keys with `n` a multiple of [`KEY_GROUP`].
    pub fn load(
        &self,
        kernels: &Kernels,
        layer: usize,
        side: Side,
        head: usize,
        page: usize,
        out: &mut [f32],
    ) {
        let page = page * self.n_layer + layer;
        let start = self.start(side, head);
        let range = start..start + out.len();
        match &self.pages {
            Pages::F16(pages) => (kernels.f16_to_f32)(&pages[page][range], out),
            Pages::Q8(pages) => {
                let (quants, scales) = &pages[page];
                let mut wide = [0.0; PAGE_LEN];
                let wide = &mut wide[..out.len() / self.head_dim];
                (kernels.f16_to_f32)(&scales[start / self.head_dim..][..wide.len()], wide);
                let widen = match side {
                    Side::Key => kernels.widen_keys,
                    Side::Value => kernels.widen_values,
                };
                widen(&quants[range], wide, self.head_dim, out);
            }
            Pages::F32(pages) => out.copy_from_slice(&pages[page][range]),
        }
    }

    /// Bytes of the pages taken so far.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.pages {
            Pages::F16(pages) => pages.iter().map(|page| 2 * page.len()).sum(),
            Pages::Q8(pages) => pages.iter().map(|(q, s)| q.len() + 2 * s.len()).sum(),
            Pages::F32(pages) => pages.iter().map(|page| 4 * page.len()).sum(),
        }
    }
}

/// Where the `dim` elements of key `row` of a head lie.
fn weave<T>(keys: &mut [T], row: usize, dim: usize) -> impl Iterator<Item = &mut T> {
    let group = &mut keys[row / KEY_GROUP * KEY_GROUP * dim..][..KEY_GROUP * dim];
    group.iter_mut().skip(row % KEY_GROUP).step_by(KEY_GROUP)
}

/// The scale of a vector's bytes, a half, and what to multiply the vector with to have them.
fn byte_scale(kernels: &Kernels, x: &[f32]) -> (u16, f32) {
    let largest = x
        .iter()
        .fold(0.0, |m: f32, &x| m.max(scalar::finite(x).abs()));
    let (mut half, mut scale) = ([0], [0.0]);
    (kernels.f32_to_f16)(&[largest / 127.0], &mut half);
    (kernels.f16_to_f32)(&half, &mut scale);
    let [scale] = scale;
    (half[0], if scale > 0.0 { 1.0 / scale } else { 0.0 })
}

fn to_byte(x: f32, inverse: f32) -> i8 {
    round_half_even(scalar::finite(x) * inverse).clamp(-127, 127) as i8
}
