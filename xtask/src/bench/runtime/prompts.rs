//! What the turns evaluate: prompts of known lengths, made of words that are one token each.

use super::contestant::{Prompt, Turn};
use crate::process::command;
use crate::project::Project;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// The words of a model's vocabulary: (token id, text).
pub struct Words(Vec<(u32, String)>);

impl Words {
    /// Asks our engine for them.
    pub fn of(project: &Project, program: &Path, model: &Path) -> Result<Self> {
        let output = command(project, program).arg("words").arg(model).output()?;
        ensure!(
            output.status.success(),
            "the words of {} cannot be listed: {}",
            model.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let words: Vec<_> =
            serde_json::from_slice(&output.stdout).context("the list of words is broken")?;
        ensure!(
            words.len() >= 8,
            "the vocabulary of {} has {} whole words, too few for prompts",
            model.display(),
            words.len()
        );
        Ok(Self(words))
    }

    /// A turn over two prompts of `len` tokens, which differ in their first token so that neither
    /// finds the other in a cache; `generate` tokens behind each.
    pub fn turn(&self, len: usize, generate: usize, wall_s_min: f64) -> Turn {
        let prompts = (0..2).map(|which| self.prompt(len, which)).collect();
        Turn {
            prompts,
            generate,
            wall_s_min,
            context_max: None,
        }
    }

    fn prompt(&self, len: usize, which: usize) -> Prompt {
        let (mut ids, mut text) = (Vec::new(), String::new());
        // Constants of Numerical Recipes' generator; only the upper bits are of use.
        let mut state = 1_013_904_223_u32;
        for position in 0..len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let index = match position {
                0 => which,
                _ => (state >> 8) as usize,
            };
            if let Some((id, word)) = self.0.get(index % self.0.len()) {
                ids.push(*id);
                text.push_str(word);
            }
        }
        Prompt { ids, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_the_length_asked_for_and_differ_at_once() {
        let words = Words((0..9).map(|id| (id, format!(" w{id}"))).collect());
        let turn = words.turn(5, 3, 0.1);
        let [a, b] = turn.prompts.as_slice() else {
            panic!("two prompts");
        };
        assert_eq!((a.ids.len(), b.ids.len(), turn.generate), (5, 5, 3));
        assert_ne!(a.ids.first(), b.ids.first());
        assert_eq!(a.text.split_whitespace().count(), 5);
        assert!(
            a.ids.get(1..) != Some(&[a.ids[1]; 4][..]),
            "one word repeated"
        );
    }
}
