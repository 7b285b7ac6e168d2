//! What conversations cost: the time to start one, and the memory that each has for itself.
//!
//! Memory is PSS (a page that n processes or mappings share counts 1/n for each), all of this
//! process's growth divided by the number of conversations.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use meetara_host::sandbox::Instance;
use meetara_host::sandbox::wire::Stepped;
use serde_json::json;

/// How many conversations are held at once.
const NUMBERS: [usize; 3] = [1, 100, 1000];
/// Tokens of the reply in each.
const REPLY_TOKENS: u32 = 8;

/// Prints a line for each number.
pub(crate) fn run(component: &Path, file: &Path) -> Result<()> {
    let sandbox = super::sandbox(component)?;
    let (image, session) = super::load(&sandbox, file)?;
    // What all share is paid for by this one, which stays.
    let mut first = Instance::spring(&sandbox, &image)?;
    talk(&mut first, session)?;
    for number in NUMBERS {
        let before = pss_bytes()?;
        let mut start_us = Vec::with_capacity(number);
        let mut conversations = Vec::with_capacity(number);
        for _ in 0..number {
            let began = Instant::now();
            conversations.push(Instance::spring(&sandbox, &image)?);
            start_us.push(began.elapsed().as_secs_f64() * 1e6);
        }
        let started = pss_bytes()?;
        let mut first_us = Vec::with_capacity(number);
        let mut tokens = 0;
        for conversation in &mut conversations {
            let began = Instant::now();
            tokens = talk(conversation, session)?;
            first_us.push(began.elapsed().as_secs_f64() * 1e6);
        }
        let talked = pss_bytes()?;
        let each = |bytes: u64| bytes.saturating_sub(before) / number as u64;
        let grown = conversations.first().map(Instance::memory_bytes);
        let line = json!({
            "conversations": number,
            "start_us_median": percentile(&mut start_us, 0.5),
            "start_us_p99": percentile(&mut start_us, 0.99),
            "pss_bytes_started": each(started),
            "pss_bytes_talked": each(talked),
            "tokens_talked": tokens,
            "reply_us_median": percentile(&mut first_us, 0.5),
            "image_bytes": image.bytes(),
            "memory_bytes": grown,
        });
        println!("{line}");
    }
    Ok(())
}

/// A short exchange; how many tokens are in the context after it.
fn talk(instance: &mut Instance, session: i32) -> Result<u32> {
    let mut tokens = super::start(instance, session, "Hello there, how are you?", REPLY_TOKENS)?;
    loop {
        match instance.step(session)? {
            Stepped::Prefill {} => {}
            Stepped::Token { .. } => tokens += 1,
            Stepped::Done { .. } => return Ok(tokens),
        }
    }
}

/// This process's proportional share of memory.
fn pss_bytes() -> Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no Pss in smaps_rollup")?.parse::<u64>()? << 10)
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values
        .get(index.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
