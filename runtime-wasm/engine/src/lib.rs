//! Bytes in; tokens, scores and samples out: the runtime without any I/O.
