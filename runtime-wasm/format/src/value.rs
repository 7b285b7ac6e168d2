//! Metadata values: thirteen types, one of them an array of any of the others.

use crate::error::{Error, ErrorKind, error};
use crate::strings::Strings;
use alloc::string::String;
use alloc::vec::Vec;

/// A value's type as the file writes it. The discriminant is the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[expect(
    missing_docs,
    reason = "each variant is the Rust type of the same name"
)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The id in the file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The fewest bytes a value of this type takes in a file: the width of a scalar, the
    /// length field of a string, the type and count of an array.
    pub(crate) const fn bytes_min(self) -> u64 {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::String => 8,
            ValueType::Array => 12,
        }
    }

    /// A short lower-case name, as in `u32` or `string`.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

impl TryFrom<u32> for ValueType {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::UnsupportedType`] for an id outside 0..=12.
    fn try_from(id: u32) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|ty| ty.id() == id)
            .ok_or_else(|| {
                error!(
                    ErrorKind::UnsupportedType,
                    "value type {id} is none of 0..=12; the file is damaged or newer than this reader"
                )
            })
    }
}

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "each variant is the Rust type of the same name"
)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array value: one type for all elements, never an array of arrays.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "each variant is the Rust type of the same name"
)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// The type that the file records for it.
    pub const fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// For messages: `u32`, or `array of string`.
    pub(crate) fn type_name(&self) -> String {
        match self {
            Value::Array(array) => alloc::format!("array of {}", array.element_type().name()),
            other => String::from(other.value_type().name()),
        }
    }

    /// The value of any integer type, when it is not negative.
    pub const fn as_u64(&self) -> Option<u64> {
        let signed = match *self {
            Value::U8(v) => return Some(v as u64),
            Value::U16(v) => return Some(v as u64),
            Value::U32(v) => return Some(v as u64),
            Value::U64(v) => return Some(v),
            Value::I8(v) => v as i64,
            Value::I16(v) => v as i64,
            Value::I32(v) => v as i64,
            Value::I64(v) => v,
            _ => return None,
        };
        if signed < 0 {
            None
        } else {
            Some(signed as u64)
        }
    }
}

impl Array {
    /// The type of the elements.
    pub const fn element_type(&self) -> ValueType {
        match self {
            Array::U8(_) => ValueType::U8,
            Array::I8(_) => ValueType::I8,
            Array::U16(_) => ValueType::U16,
            Array::I16(_) => ValueType::I16,
            Array::U32(_) => ValueType::U32,
            Array::I32(_) => ValueType::I32,
            Array::F32(_) => ValueType::F32,
            Array::Bool(_) => ValueType::Bool,
            Array::String(_) => ValueType::String,
            Array::U64(_) => ValueType::U64,
            Array::I64(_) => ValueType::I64,
            Array::F64(_) => ValueType::F64,
        }
    }

    /// How many elements.
    pub const fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `Value::from(x)` for the types that a writer sets most.
macro_rules! value_from {
    ($($rust:ty => $make:expr),* $(,)?) => {$(
        impl From<$rust> for Value {
            fn from(value: $rust) -> Self {
                $make(value)
            }
        }
    )*};
}
value_from! {
    u8 => Value::U8,
    i8 => Value::I8,
    u16 => Value::U16,
    i16 => Value::I16,
    u32 => Value::U32,
    i32 => Value::I32,
    f32 => Value::F32,
    bool => Value::Bool,
    u64 => Value::U64,
    i64 => Value::I64,
    f64 => Value::F64,
    String => Value::String,
    &str => |text| Value::String(String::from(text)),
    Array => Value::Array,
    Strings => |v| Value::Array(Array::String(v)),
    Vec<String> => |v: Vec<String>| Value::Array(Array::String(v.into())),
    Vec<f32> => |v| Value::Array(Array::F32(v)),
    Vec<i32> => |v| Value::Array(Array::I32(v)),
    Vec<u32> => |v| Value::Array(Array::U32(v)),
}
