//! Feeds every kept seed and regression to the targets that the fuzzers run.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use meetara_fuzz_targets::TARGETS;

/// Far above what one input takes, far below what a person would call a hang.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);
/// What all seeds and regressions may take in the repository.
const BYTES_MAX: u64 = 300_000;

/// The files of one folder, in the order of their names.
fn files(kind: &str, target: &str) -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target);
    // A target without regressions has no such folder.
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_takes_its_seeds_and_regressions() {
    let mut bytes = 0;
    for (name, run) in TARGETS {
        let seeds = files("seeds", name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let regressions = files("regressions", name);
        println!(
            "{name}: {} seeds, {} regressions",
            seeds.len(),
            regressions.len()
        );
        for file in seeds.iter().chain(&regressions) {
            let data = fs::read(file).unwrap();
            bytes += data.len() as u64;
            println!("  {}", file.display());
            let start = Instant::now();
            run(&data);
            assert!(start.elapsed() < INPUT_TIME_MAX, "{} hangs", file.display());
        }
    }
    assert!(
        bytes <= BYTES_MAX,
        "seeds and regressions take {bytes} bytes, at most {BYTES_MAX} are kept"
    );
}

/// A seed that is refused at the door tests nothing behind it.
#[test]
fn seeds_of_files_load() {
    use meetara_engine::model::{Adapter, Model};
    use meetara_fuzz_targets::tiny;
    for file in files("seeds", "gguf") {
        let result = Model::load(fs::read(&file).unwrap());
        assert!(result.is_ok(), "{}: {:?}", file.display(), result.err());
    }
    for file in files("seeds", "adapter") {
        let result = Adapter::load(&tiny::base(), &fs::read(&file).unwrap());
        assert!(result.is_ok(), "{}: {:?}", file.display(), result.err());
    }
}
