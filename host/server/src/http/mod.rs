//! The two servers: the page (`web`) and the API (`rest`).
//!
//! `guard` stands before both, `chat` is the one endpoint with a life of its own.

mod adapters;
mod ask;
mod chat;
mod error;
mod guard;
mod read;
pub mod rest;
pub mod web;

pub use guard::Guard;
