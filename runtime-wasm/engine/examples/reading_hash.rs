//! The hash of what a text model reads in texts, for every set of kernels that this CPU can run.
//!
//! ```text
//! reading_hash FILE.gguf TEXT...   one line of JSON for each set of kernels
//! ```
//!
//! The hash is FNV-1a (64 bits) over the bits of the numbers, little endian, and the names. `tests/runners/one_reading.mjs`
//! computes the same in Node and Chromium.

use std::error::Error;

use meetara_engine::encoder::Encoder;
use meetara_engine::kernels::Kernels;
use meetara_engine::reader::{Reader, Reading};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, texts @ ..] = arguments.as_slice() else {
        return Err("usage: reading_hash FILE.gguf TEXT...".into());
    };
    for kernels in Kernels::available() {
        let reader = Reader::new(Encoder::load_with(std::fs::read(file)?, kernels)?)?;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for text in texts {
            for byte in bytes(&reader.read(text)?) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        let line = serde_json::json!({ "kernels": kernels.name, "hash": format!("{hash:016x}") });
        println!("{line}");
    }
    Ok(())
}

/// In the order in which the runner takes them.
fn bytes(reading: &Reading) -> Vec<u8> {
    let emotion = reading.text.emotion_scores.map(|scores| scores.to_array());
    let safety = &reading.safety.scores;
    let safety = safety
        .as_ref()
        .map(|s| [s.mental_health, s.medical, s.abuse]);
    let mut numbers: Vec<f32> = emotion.into_iter().flatten().collect();
    numbers.extend(reading.text.labels.iter().map(|label| label.probability));
    numbers.extend([reading.text.intensity, reading.text.confidence]);
    numbers.push(reading.domain.probability);
    numbers.extend(
        reading
            .domain
            .likely
            .iter()
            .map(|likely| likely.probability),
    );
    numbers.extend(safety.into_iter().flatten());
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    bytes.extend(reading.domain.name.unwrap_or("none").as_bytes());
    bytes.extend(reading.safety.category.name().as_bytes());
    bytes
}
