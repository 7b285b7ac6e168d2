//! GGUF reading and writing, and the bytes of every block type.
