//! The engine as a Cloudflare Worker.
