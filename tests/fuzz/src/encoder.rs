//! A GGUF file as an encoder: loaded, given a text, and where it has the heads for it, made a reader.

use meetara_engine::encoder::Encoder;
use meetara_engine::reader::Reader;

/// More tokens than a tiny encoder takes, a word it does not know, and a special token's text.
const TEXT: &str = "I am so sad, hello! [CLS] é \u{0} it is the the the the the the the the";

/// Feeds `data` as a file.
pub fn run(data: &[u8]) {
    let Ok(encoder) = Encoder::load(data.to_vec()) else {
        return;
    };
    if let Ok(reading) = encoder.encode(TEXT) {
        assert!(reading.tokens <= encoder.tokens_max());
        assert_eq!(reading.embedding.len(), encoder.config().n_embd);
        for head in &reading.heads {
            assert_eq!(head.probabilities.len(), head.head.labels.len());
        }
    }
    if let Ok(reader) = Reader::new(encoder) {
        // A file of NaN weights has a reading like any other.
        let _ = reader.read(TEXT);
    }
}
