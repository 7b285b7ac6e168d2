//! The list of data sources and what is taken from each.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::reader::Reader;
use super::split::{self, Leaks};
use super::{Body, Example};

/// What a source's rows must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Chats and texts, told apart row by row.
    #[default]
    Auto,
    /// Chats only; a text is an error.
    Chat,
    /// Texts only; a chat is an error.
    Text,
}

/// One file in the mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// JSON lines, plain or zstandard.
    pub path: PathBuf,
    /// Times each example is used in one epoch of the mix; 0.5 uses half of them, 2.5 uses all
    /// twice and half of them once more.
    #[serde(default = "one")]
    pub repeat: f64,
    /// At most this many training examples, chosen by the seed.
    #[serde(default)]
    pub max_examples: Option<usize>,
    /// What the rows must be.
    #[serde(default)]
    pub kind: Kind,
    /// Only rows whose `"domain"` is this.
    #[serde(default)]
    pub domain: Option<String>,
    /// Whether a share of it is held out for measuring. Off for text that stands in another source
    /// too, since training on the one would give the other's held-out part away.
    #[serde(default = "yes")]
    pub hold_out: bool,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Source {
    /// A file used once, whole.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            repeat: 1.0,
            max_examples: None,
            kind: Kind::Auto,
            domain: None,
            hold_out: true,
        }
    }

    /// Folder and file, without `.jsonl` and `.zst`: `chat/recipes`. For people to read.
    pub fn name(&self) -> String {
        let folder = self.path.parent().and_then(Path::file_name);
        match folder {
            Some(folder) => format!("{}/{}", folder.to_string_lossy(), self.stem()),
            None => self.stem(),
        }
    }

    fn stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.trim_end_matches(".zst")
            .trim_end_matches(".jsonl")
            .to_owned()
    }

    fn check(&self) -> Result<()> {
        ensure!(
            (0.0..=1000.0).contains(&self.repeat),
            "{}: repeat must be from 0 to 1000, it is {}",
            self.path.display(),
            self.repeat
        );
        Ok(())
    }

    fn takes(&self, example: &Example) -> bool {
        self.domain.is_none() || self.domain == example.domain
    }
}

/// One source's examples, read and split.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// For training, in the file's order; already cut to `max_examples`.
    pub train: Vec<Example>,
    /// How often each of `train` is used in one epoch. `[train.len()]`
    pub uses: Vec<u32>,
    /// For measuring, in the file's order.
    pub held_out: Vec<Example>,
    /// Training examples dropped because they give a held-out one away.
    pub dropped: usize,
}

/// Reads all sources, holds out `permille` of each and drops what gives held-out examples of any
/// source away.
///
/// # Errors
/// A file that cannot be read, a bad line, a row of the wrong kind, or nothing left to train on.
pub fn load(sources: &[Source], permille: u32, seed: u64) -> Result<Vec<Loaded>> {
    ensure!(
        permille <= 1000,
        "the hold-out is {permille} permille: at most 1000 make sense"
    );
    let mut leaks = Leaks::default();
    let mut all = Vec::with_capacity(sources.len());
    for source in sources {
        source.check()?;
        let mut loaded = Loaded {
            train: Vec::new(),
            uses: Vec::new(),
            held_out: Vec::new(),
            dropped: 0,
        };
        for (i, example) in Reader::open(&source.path)?.enumerate() {
            let example = example?;
            let matches = match (&example.body, source.kind) {
                (_, Kind::Auto) => true,
                (Body::Chat(_), kind) => kind == Kind::Chat,
                (Body::Text(_), kind) => kind == Kind::Text,
            };
            ensure!(
                matches,
                "{}: row {} is not of the kind that the mix says ({:?})",
                source.path.display(),
                i + 1,
                source.kind
            );
            if !source.takes(&example) {
                continue;
            }
            if source.hold_out && split::is_held_out(&example, permille) {
                leaks.hold_out(&example);
                loaded.held_out.push(example);
            } else {
                loaded.train.push(example);
            }
        }
        all.push(loaded);
    }
    for (source, loaded) in sources.iter().zip(&mut all) {
        let before = loaded.train.len();
        loaded.train.retain(|example| !leaks.gives_away(example));
        loaded.dropped = before - loaded.train.len();
        choose(source, loaded, seed);
    }
    let n_uses: u64 = all
        .iter()
        .flat_map(|l| &l.uses)
        .map(|&n| u64::from(n))
        .sum();
    ensure!(
        n_uses > 0,
        "the {} sources of the mix leave no training example",
        sources.len()
    );
    Ok(all)
}

/// Cuts to `max_examples` and sets how often each example is used.
fn choose(source: &Source, loaded: &mut Loaded, seed: u64) {
    let n_all = loaded.train.len();
    let n_kept = source.max_examples.unwrap_or(n_all).min(n_all);
    let mut order: Vec<u32> = (0..n_all as u32).collect();
    order.shuffle(&mut source_rng(source, seed));

    let total = (source.repeat * n_kept as f64).round() as u64;
    let (whole, part) = match n_kept as u64 {
        0 => (0, 0),
        n => ((total / n) as u32, (total % n) as usize),
    };
    let mut uses = vec![0; n_all];
    for (rank, &i) in order.iter().take(n_kept).enumerate() {
        uses[i as usize] = whole + u32::from(rank < part);
    }
    let mut keep = uses.iter().map(|&n| n > 0);
    loaded.train.retain(|_| keep.next().unwrap_or(false));
    loaded.uses = uses.into_iter().filter(|&n| n > 0).collect();
}

/// Depends on the seed and the file's name, not on its place in the list or on its folder.
fn source_rng(source: &Source, seed: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(source.stem());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// The training texts for a tokenizer, each once, whatever its uses.
pub fn tokenizer_texts(loaded: &[Loaded]) -> impl Iterator<Item = &str> + Send {
    loaded
        .iter()
        .flat_map(|source| source.train.iter().flat_map(Example::texts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("meetara-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        fn file(&self, name: &str, rows: impl Iterator<Item = String>) -> Source {
            let path = self.0.join(name);
            fs::write(&path, rows.collect::<Vec<_>>().join("\n")).unwrap();
            Source::new(path)
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn rows(n: usize) -> impl Iterator<Item = String> {
        (0..n).map(|i| {
            let domain = i % 2;
            format!("{{\"prompt\":\"q {i}\",\"completion\":\"a {i}\",\"domain\":\"d{domain}\"}}")
        })
    }

    #[test]
    fn split_repeat_and_cut() {
        let folder = Folder::new("mix");
        let whole = folder.file("a.jsonl", rows(500));
        let half = Source {
            repeat: 0.5,
            ..whole.clone()
        };
        let twice_and_half = Source {
            repeat: 2.5,
            ..whole.clone()
        };
        let cut = Source {
            max_examples: Some(40),
            ..whole.clone()
        };
        let one_domain = Source {
            domain: Some("d1".into()),
            ..whole.clone()
        };
        let load = |source: &Source| {
            load(std::slice::from_ref(source), 100, 7)
                .unwrap()
                .remove(0)
        };

        let all = load(&whole);
        let n = all.train.len();
        assert!((420..480).contains(&n), "{n}");
        assert_eq!(n + all.held_out.len(), 500);
        assert!(all.uses.iter().all(|&uses| uses == 1));
        assert!(
            all.train
                .iter()
                .all(|example| !all.held_out.contains(example))
        );

        assert_eq!(load(&half).train.len(), (n as f64 / 2.0).round() as usize);
        let uses = load(&twice_and_half).uses;
        assert_eq!(uses.len(), n);
        assert_eq!(uses.iter().sum::<u32>(), (n as f64 * 2.5).round() as u32);
        let cut = load(&cut);
        assert_eq!(
            (cut.train.len(), cut.held_out.len()),
            (40, all.held_out.len())
        );
        assert!(
            cut.train
                .iter()
                .any(|example| !all.train[..60].contains(example))
        );
        assert!(
            load(&one_domain)
                .train
                .iter()
                .all(|e| e.domain.as_deref() == Some("d1"))
        );
        assert_eq!(all, load(&whole));

        let kept = load(&Source {
            hold_out: false,
            ..whole.clone()
        });
        assert_eq!((kept.train.len(), kept.held_out.len()), (500, 0));
    }

    #[test]
    fn a_leak_in_another_source_is_dropped() {
        let folder = Folder::new("leak");
        let a = folder.file("a.jsonl", rows(300));
        let b = folder.file(
            "b.jsonl",
            (0..300).map(|i| format!("{{\"prompt\":\"Q  {i}\",\"completion\":\"other {i}\"}}")),
        );
        let loaded = load(&[a, b], 100, 1).unwrap();
        assert!(loaded[0].held_out.len() > 10);
        assert!(loaded[0].dropped + loaded[1].dropped >= loaded[0].held_out.len() / 2);
        let lower = |example: &Example| {
            let question = example.texts().next().unwrap().to_lowercase();
            question.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for held in loaded.iter().flat_map(|l| &l.held_out) {
            for train in loaded.iter().flat_map(|l| &l.train) {
                assert_ne!(lower(held), lower(train));
            }
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let folder = Folder::new("wrong");
        let source = folder.file("a.jsonl", rows(5));
        let error = |source: Source| load(&[source], 0, 0).unwrap_err().to_string();
        let e = error(Source {
            repeat: -1.0,
            ..source.clone()
        });
        assert!(e.contains("repeat must be"), "{e}");
        let e = error(Source {
            kind: Kind::Text,
            ..source.clone()
        });
        assert!(e.contains("row 1 is not of the kind"), "{e}");
        let e = error(Source {
            max_examples: Some(0),
            ..source.clone()
        });
        assert!(e.contains("no training example"), "{e}");
        let e = error(Source::new(folder.0.join("missing.jsonl")));
        assert!(e.contains("missing.jsonl"), "{e}");
        assert!(load(&[source], 1001, 0).is_err());
    }
}
