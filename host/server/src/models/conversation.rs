//! Conversations: each an instance of its own, kept for a while for what may follow.
//!
//! HTTP has no conversations, only requests that repeat what was said before. A request is given to
//! the conversation whose keys and values it can use most of, and to a fresh one otherwise. Which
//! that is, is guessed by the texts; what is used in truth, the engine decides token by token.

use std::collections::VecDeque;
use std::sync::Arc;

use meetara_api::Prompt;

use super::Mix;
use crate::sandbox::{Image, Instance, Sandbox, SandboxError};

/// What a conversation takes beside the pages of its keys and values: the session's buffers, once
/// written to, and the kernel's tables. See `cargo xtask bench host`.
const FIXED_BYTES: usize = 512 << 10;

/// Marks the end of a role and of a message. No other use of it is known, and none would harm.
const END: char = '\u{1f}';

/// An instance that holds a conversation.
pub(super) struct Conversation {
    /// It springs from the image of the loaded model.
    pub(super) instance: Instance,
    /// Bytes of that image.
    image_bytes: usize,
    /// The adapters in use.
    mix: Mix,
    /// What it has read and written.
    pub(super) seen: String,
}

impl Conversation {
    /// A fresh one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(
        sandbox: &Sandbox,
        image: &Arc<Image>,
        mix: &Mix,
    ) -> Result<Self, SandboxError> {
        Ok(Self {
            instance: Instance::spring(sandbox, image)?,
            image_bytes: image.bytes(),
            mix: mix.clone(),
            seen: String::new(),
        })
    }

    /// About how much memory it takes for itself.
    fn bytes(&self) -> usize {
        let grown = self
            .instance
            .memory_bytes()
            .saturating_sub(self.image_bytes);
        grown + FIXED_BYTES
    }
}

/// Whether two mixes are the same, bit for bit.
fn same(a: &Mix, b: &Mix) -> bool {
    let pairs = a.iter().zip(b);
    let mut pairs = pairs.map(|((a, scale_a), (b, scale_b))| {
        a.key == b.key && scale_a.to_bits() == scale_b.to_bits()
    });
    a.len() == b.len() && pairs.all(|same| same)
}

/// A prompt as it is compared with others.
pub(super) fn text_of(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Chat(messages) => {
            let mut text = String::new();
            for message in messages {
                for part in [&message.role, &message.content] {
                    text.push_str(part);
                    text.push(END);
                }
            }
            text
        }
    }
}

/// Adds a reply to `prompt` to what was seen.
pub(super) fn add_reply(seen: &mut String, prompt: &Prompt, reply: &str) {
    match prompt {
        Prompt::Text(_) => seen.push_str(reply),
        Prompt::Chat(_) => {
            for part in ["assistant", reply] {
                seen.push_str(part);
                seen.push(END);
            }
        }
    }
}

/// Conversations that nobody talks in, the last used last.
#[derive(Default)]
pub(super) struct Kept(VecDeque<Conversation>);

impl Kept {
    /// Takes out the one that knows most of `prompt`, if it is worth it: when the prompt goes on
    /// where that conversation ended, or when half of the prompt would not have to be read again.
    pub(super) fn take(&mut self, mix: &Mix, prompt: &str) -> Option<Conversation> {
        let known = |kept: &Conversation| {
            let pairs = kept.seen.bytes().zip(prompt.bytes());
            let known = pairs.take_while(|(a, b)| a == b).count();
            (known == kept.seen.len() && known > 0, known)
        };
        let ((goes_on, known), index) = (self.0.iter().enumerate())
            .filter(|(_, kept)| same(&kept.mix, mix))
            .map(|(index, kept)| (known(kept), index))
            .max()?;
        if goes_on || (known > 0 && 2 * known >= prompt.len()) {
            self.0.remove(index)
        } else {
            None
        }
    }

    /// Keeps a conversation; the oldest make room when all together take more than `bytes_max`.
    pub(super) fn put(&mut self, conversation: Conversation, bytes_max: usize) {
        self.0.push_back(conversation);
        while self.bytes() > bytes_max && self.0.pop_front().is_some() {}
    }

    /// Drops those whose adapters are `gone`.
    pub(super) fn forget(&mut self, gone: impl Fn(&Mix) -> bool) {
        self.0.retain(|kept| !gone(&kept.mix));
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Conversation::bytes).sum()
    }
}
