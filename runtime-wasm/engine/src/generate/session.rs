//! One conversation: a model, the KV cache of what it has read, and a reply in
//! the making.
//!
//! ```text
//! start_chat / start_text    tokens of the prompt; how many are cached already
//! step  -> Prefill           up to 32 tokens of the prompt, until all are in
//! step  -> Token             one token
//! step  -> Done              the reply's end
//! ```
//!
//! Nothing runs between two calls, so to cancel is to stop calling. The cache
//! stays, and the next prompt skips what it shares with it.
//!
//! With guesses (`lookup`) a pass evaluates a token and what may follow it;
//! the steps after it find their logits ready for as long as the guess holds.
//! When a chat may be shortened (`shift`), a step of a reply can be `Prefill`
//! again.

use std::sync::Arc;

use super::logprobs::{self, Logprobs};
use super::lookup::Drafts;
use super::prompt;
use super::sampler::Sampler;
use super::shift::Turns;
use super::stop::StopMatcher;
use super::{EXTRAS, Finish, GenerateParams, Started, Step, Usage};
use crate::error::{Error, Result};
use crate::model::{Adapter, Model, Scratch};
use crate::nn::kv_cache::{KvCache, KvType};
use crate::nn::pool::Pool;
use crate::nn::{COLUMNS_MAX, memory};
use crate::profile::{Clock, Span};
use crate::template::Message;
use crate::tokenizer::Utf8Stream;

/// The context of a session that names none, where the model allows more.
/// Memory is taken as the context fills, so this bounds time, not memory.
pub const CONTEXT_DEFAULT: u32 = 4096;

/// Columns whose logits [`Session::score`] computes together.
const SCORE_COLUMNS: usize = 8;

/// Memory that a step takes for texts and lists of its own, and a start, for each byte of its prompt too.
const STEP_BYTES: usize = 8 << 10;
const START_BYTES: usize = 48 << 10;
const START_PER_BYTE: usize = 24;

/// One conversation with a model.
///
/// Buffers are allocated in [`Session::new`]; afterwards the KV cache alone
/// grows, by a page of each layer for every 64 positions.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    /// Tokens that were evaluated, by position.
    pub(super) tokens: Vec<u32>,
    /// How many of them have keys and values in the cache: all, unless some were evaluated elsewhere.
    /// Larger than `tokens` after those were cut, until the next pass.
    pub(super) own: usize,
    /// Whether adapters are in use.
    pub(super) adapted: bool,
    cache: KvCache,
    scratch: Scratch,
    /// Of the last token evaluated: (n_vocab)
    pub(super) logits: Vec<f32>,
    pub(super) reply: Option<Reply>,
    /// Of the token that the last step chose, if asked for.
    logprobs: Option<Logprobs>,
}

/// A reply in the making.
#[derive(Debug)]
pub(super) struct Reply {
    /// What must be in the cache before a token is chosen. After a shift, the reply so far included.
    pub(super) prompt: Vec<u32>,
    /// Where in the context the reply begins.
    start: usize,
    sampler: Sampler,
    stream: Utf8Stream,
    stop: StopMatcher,
    pub(super) usage: Usage,
    pub(super) tokens_max: u32,
    /// The last token generated, and its place: its keys and values are not yet in the cache, unless
    /// it was guessed.
    pub(super) pending: Option<u32>,
    pub(super) at: usize,
    /// The bytes of one token.
    bytes: Vec<u8>,
    top_logprobs: Option<u32>,
    pub(super) drafts: Drafts,
    /// The conversation, when it may be shortened.
    turns: Option<Turns>,
    /// Bits of the tokens that may be chosen next; empty for all.
    allowed: Vec<u32>,
    #[cfg(feature = "constrained")]
    constraint: Option<meetara_constraint::Constraint>,
}

impl Session {
    /// A session over `model` whose context is at most `context_max` tokens;
    /// without one, what the model was trained for, at most [`CONTEXT_DEFAULT`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when `context_max` is 0 or more
    /// than the model was trained for, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(model: Arc<Model>, context_max: Option<u32>) -> Result<Self> {
        Self::with_kv(model, context_max, KvType::F16)
    }

    /// [`Session::new`] with keys and values kept as `kv`.
    ///
    /// # Errors
    /// Those of [`Session::new`].
    pub fn with_kv(model: Arc<Model>, context_max: Option<u32>, kv: KvType) -> Result<Self> {
        let config = model.config();
        let context_max = match context_max {
            None => config.context_len.min(CONTEXT_DEFAULT as usize),
            Some(n) if n >= 1 && n as usize <= config.context_len => n as usize,
            Some(n) => {
                return Err(Error::invalid_request(format!(
                    "context_max is {n}, it must lie between 1 and {}, for which the model was trained",
                    config.context_len
                )));
            }
        };
        let mut tokens = memory::zeroed(context_max, "the tokens of the context")?;
        tokens.clear();
        Ok(Self {
            tokens,
            own: 0,
            adapted: false,
            cache: KvCache::new(
                kv,
                config.n_layer,
                config.n_head_kv,
                config.head_dim,
                context_max,
            )?,
            scratch: Scratch::new(config, context_max)?,
            logits: memory::zeroed(config.n_vocab, "logits")?,
            reply: None,
            logprobs: None,
            model,
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The most tokens, prompt and reply together.
    #[must_use]
    pub fn context_max(&self) -> u32 {
        self.cache.len_max() as u32
    }

    /// Tokens in the KV cache.
    #[must_use]
    pub fn context_used(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Bytes of the session's buffers, the model not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.cache.memory_bytes()
            + self.scratch.memory_bytes()
            + 4 * (self.logits.len() + self.tokens.capacity())
    }

    /// Computes products on threads that the host lends, or with `None` on the calling one. Logits
    /// stay the same bit for bit.
    pub fn set_pool(&mut self, pool: Option<Arc<dyn Pool>>) {
        self.scratch.set_pool(pool);
    }

    /// Measures from now on, with `clock`, what the time of this session goes into; what was measured
    /// before is forgotten.
    pub fn start_profile(&mut self, clock: Clock) {
        self.scratch.profile().start(clock);
    }

    /// What has been measured since [`Self::start_profile`], the template and the tokenizer not
    /// counted; nothing without it.
    pub fn profile(&mut self) -> &[Span] {
        self.scratch.profile().spans()
    }

    /// Adds `adapters` to the model from now on, each times its scale; none
    /// takes all of them off. Unless they are the ones in use, the session
    /// forgets the conversation: its keys and values are another model's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for an adapter that was loaded
    /// for another model or a scale that is no number,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory). Nothing has changed then.
    pub fn set_adapters(&mut self, adapters: &[(Adapter, f32)]) -> Result<()> {
        let mut active = Vec::with_capacity(adapters.len());
        for (adapter, scale) in adapters {
            if !adapter.fits(&self.model) {
                return Err(Error::invalid_request(
                    "the adapter was loaded for another model; load it for this one",
                ));
            }
            if !scale.is_finite() {
                return Err(Error::invalid_request(format!(
                    "the scale of an adapter is {scale}, it must be a number"
                )));
            }
            // A scale of 0 leaves the base's bits as they are.
            if *scale != 0.0 {
                active.push((Arc::clone(&adapter.pairs), *scale));
            }
        }
        let adapted = !active.is_empty();
        let mix = self.scratch.adapters();
        if !mix.is(&active) {
            mix.set(active)?;
            self.adapted = adapted;
            self.reset();
        }
        Ok(())
    }

    /// Prepares a reply to `messages`; [`Self::step`] does the work. A reply
    /// that was in the making is dropped, unless this call fails.
    ///
    /// # Errors
    /// [`ErrorKind::ContextOverflow`](crate::ErrorKind::ContextOverflow) when the prompt does not fit,
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for an empty list or a parameter
    /// out of its range, [`ErrorKind::Template`](crate::ErrorKind::Template).
    pub fn start_chat(&mut self, messages: &[Message], params: &GenerateParams) -> Result<Started> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        assure_start(bytes)?;
        let mut prompt = prompt::chat_tokens(&self.model, messages)?;
        if !EXTRAS || !params.context_shift {
            return self.start(prompt, params, None);
        }
        let mut turns = Turns::new(messages);
        let context_max = self.cache.len_max();
        if prompt.len() > context_max
            && let Some(shorter) = turns.shorten(&self.model, 0, context_max)?
        {
            prompt = shorter;
        }
        self.start(prompt, params, Some(turns))
    }

    /// Prepares the continuation of `text`, as [`Self::start_chat`] does.
    ///
    /// # Errors
    /// Those of [`Self::start_chat`], the template's excepted.
    pub fn start_text(&mut self, text: &str, params: &GenerateParams) -> Result<Started> {
        if EXTRAS && params.context_shift {
            return Err(Error::invalid_request(
                "context_shift drops turns of a chat, and a text has none; leave it out",
            ));
        }
        assure_start(text.len())?;
        let prompt = prompt::text_tokens(self.model.tokenizer(), text)?;
        self.start(prompt, params, None)
    }

    fn start(
        &mut self,
        prompt: Vec<u32>,
        params: &GenerateParams,
        turns: Option<Turns>,
    ) -> Result<Started> {
        params.validate()?;
        self.check_room(&prompt, 0)?;
        let sampled = self.sampled_len();
        let mut sampler = Sampler::new(params, sampled)?;
        for &id in prompt.iter().filter(|&&id| (id as usize) < sampled) {
            sampler.accept(id);
        }
        let drafts = Drafts::new(params, self.logits.len())?;
        #[cfg(feature = "constrained")]
        let constraint = super::constraint::compile(&self.model, params)?;
        self.reuse(&prompt);
        let started = Started {
            prompt_tokens: prompt.len() as u32,
            cached_tokens: self.tokens.len() as u32,
        };
        self.reply = Some(Reply {
            start: prompt.len(),
            at: prompt.len(),
            prompt,
            sampler,
            stream: Utf8Stream::new(),
            stop: StopMatcher::new(&params.stop),
            usage: Usage {
                prompt_tokens: started.prompt_tokens,
                completion_tokens: 0,
                cached_tokens: started.cached_tokens,
                dropped_messages: turns.as_ref().map_or(0, |turns| turns.dropped),
                ..Usage::default()
            },
            tokens_max: params.max_tokens.unwrap_or(u32::MAX),
            pending: None,
            bytes: Vec::new(),
            top_logprobs: params.top_logprobs,
            drafts,
            turns,
            allowed: Vec::new(),
            #[cfg(feature = "constrained")]
            constraint,
        });
        Ok(started)
    }

    /// Does the next bounded piece of work.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when no reply is in the making,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory), and
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) when the model's arithmetic gave NaN. After
    /// an error the reply is over.
    pub fn step(&mut self) -> Result<Step> {
        memory::assure(STEP_BYTES, "a step")?;
        if let Some(wanted) = self.wanted() {
            let total = (wanted.context.len() + wanted.next.len()) as u32;
            if self.catch_up()? {
                let done = self.own as u32;
                return Ok(Step::Prefill { done, total });
            }
        }
        let mut reply = self.reply.take().ok_or_else(no_reply)?;
        self.logprobs = None;
        let step = if self.tokens.len() < reply.prompt.len() {
            self.prefill(&reply)?
        } else {
            self.generate(&mut reply)?
        };
        if !matches!(step, Step::Done { .. }) {
            self.reply = Some(reply);
        }
        Ok(step)
    }

    /// Ends the reply that is in the making, as its `max_tokens` would: the text that was held back
    /// and, where the reply follows a schema or a grammar, the shortest valid end.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when no reply is in the making.
    pub fn end(&mut self) -> Result<String> {
        let mut reply = self.reply.take().ok_or_else(no_reply)?;
        match reply.cut()? {
            Step::Done { text, .. } | Step::Token { text, .. } => Ok(text),
            Step::Prefill { .. } => Ok(String::new()),
        }
    }

    fn prefill(&mut self, reply: &Reply) -> Result<Step> {
        let total = reply.prompt.len();
        let done = self.tokens.len();
        let end = total.min(done + COLUMNS_MAX);
        let is_last = end == total;
        self.forward(&reply.prompt[done..end], usize::from(is_last))?;
        if is_last {
            self.last_logits(end - done);
        }
        Ok(Step::Prefill {
            done: end as u32,
            total: total as u32,
        })
    }

    fn generate(&mut self, reply: &mut Reply) -> Result<Step> {
        #[cfg(feature = "constrained")]
        if reply.constraint.as_ref().is_some_and(|c| c.is_finished()) {
            return Ok(reply.done(Finish::Stop));
        }
        if reply.usage.completion_tokens >= reply.tokens_max {
            return reply.cut();
        }
        if let Some(id) = reply.pending
            && !self.advance(reply, id)?
        {
            return if self.shift(reply, id)? {
                self.prefill(reply)
            } else {
                reply.cut()
            };
        }
        let logits = &self.logits[..self.sampled_len()];
        self.scratch.profile().begin();
        #[cfg(feature = "constrained")]
        if let Some(constraint) = &mut reply.constraint {
            let mask = constraint.mask().map_err(super::constraint::to_error)?;
            reply.allowed.clear();
            reply.allowed.extend_from_slice(mask);
            self.scratch.profile().mark("mask");
        }
        let allowed = (EXTRAS && !reply.allowed.is_empty()).then_some(&reply.allowed[..]);
        let id = reply.sampler.sample_within(logits, allowed)?;
        reply.allowed.clear();
        self.scratch.profile().mark("sampling");
        let tokenizer = self.model.tokenizer();
        if tokenizer.is_end_of_generation(id) {
            return Ok(reply.done(Finish::Stop));
        }
        if EXTRAS && let Some(top) = reply.top_logprobs {
            self.logprobs = Some(logprobs::of(tokenizer, logits, id, top));
        }
        #[cfg(feature = "constrained")]
        if let Some(constraint) = &mut reply.constraint {
            constraint.accept(id).map_err(super::constraint::to_error)?;
        }
        reply.sampler.accept(id);
        reply.usage.completion_tokens += 1;
        reply.pending = Some(id);
        reply.bytes.clear();
        tokenizer.append_bytes(id, &mut reply.bytes);
        let (text, stopped) = reply.stop.push(reply.stream.push(&reply.bytes));
        let text = text.to_owned();
        Ok(if stopped {
            Step::Done {
                finish: Finish::Stop,
                text,
                usage: reply.usage,
            }
        } else {
            Step::Token { id, text }
        })
    }

    /// Makes `logits` those after the token `id`, the last of the reply; `false` when the context has
    /// no place for it.
    fn advance(&mut self, reply: &mut Reply, id: u32) -> Result<bool> {
        let (at, n_vocab) = (reply.at, self.logits.len());
        let drafts = &mut reply.drafts;
        if EXTRAS && self.tokens.get(at) == Some(&id) {
            // It was guessed, so the last pass was its own too.
            let row = (at - drafts.first) * n_vocab;
            self.logits
                .copy_from_slice(&drafts.rows[row..row + n_vocab]);
            reply.at += 1;
            reply.usage.accepted_tokens += 1;
            return Ok(true);
        }
        if EXTRAS && !drafts.rows.is_empty() {
            drafts.judge(at.saturating_sub(drafts.first + 1));
        }
        self.tokens.truncate(at);
        let max = self.cache.len_max();
        if at == max {
            return Ok(false);
        }
        if !EXTRAS || drafts.rows.is_empty() {
            self.forward(&[id], 1)?;
            self.last_logits(1);
        } else {
            // No guess may outlast the context, or the reply.
            let left = (reply.tokens_max - reply.usage.completion_tokens - 1) as usize;
            self.tokens.push(id);
            drafts.guess(&self.tokens, left.min(max - at - 1));
            self.tokens.truncate(at);
            let columns = drafts.batch.len();
            self.forward(&drafts.batch, columns)?;
            let rows = &mut drafts.rows[..columns * n_vocab];
            self.logits_of(0, columns, rows);
            self.logits.copy_from_slice(&rows[..n_vocab]);
            drafts.first = at;
            reply.usage.drafted_tokens += columns as u32 - 1;
        }
        reply.at += 1;
        Ok(true)
    }

    /// Shortens a conversation that fills the context, `id` the reply's last token; `false` when it
    /// must not or cannot be. Afterwards the new prompt must be evaluated.
    fn shift(&mut self, reply: &mut Reply, id: u32) -> Result<bool> {
        let Some(turns) = reply.turns.as_mut().filter(|_| EXTRAS) else {
            return Ok(false);
        };
        let max = self.cache.len_max();
        let reply_len = reply.at + 1 - reply.start;
        let Some(mut prompt) = turns.shorten(&self.model, reply_len, max)? else {
            return Ok(false);
        };
        if prompt.len() + reply_len > max {
            return Ok(false);
        }
        let start = prompt.len();
        prompt.extend_from_slice(&self.tokens[reply.start..]);
        prompt.push(id);
        reply.usage.dropped_messages = turns.dropped;
        self.reuse(&prompt);
        (reply.start, reply.at, reply.pending) = (start, prompt.len(), None);
        reply.prompt = prompt;
        Ok(true)
    }

    /// Bars all tokens but those whose bit is set in `mask` (the lowest bit of a word first, ids beyond
    /// its end are barred) when the next token is chosen, and only then: for hosts with a grammar of
    /// their own. Needs the feature `extras`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when no reply is in the making.
    pub fn allow(&mut self, mask: &[u32]) -> Result<()> {
        let reply = self.reply.as_mut().ok_or_else(no_reply)?;
        reply.allowed.clear();
        reply.allowed.extend_from_slice(mask);
        Ok(())
    }

    /// The log-probabilities of the token that the last [`Self::step`] chose, also of one that ended
    /// the reply by a stop string. `None` unless [`GenerateParams::top_logprobs`] asked for them, and
    /// after a step that chose none.
    pub fn take_logprobs(&mut self) -> Option<Logprobs> {
        self.logprobs.take()
    }

    /// The logits of the last token that was evaluated: (n_vocab).
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Forgets everything, evaluates `tokens` and returns the logits after the
    /// last: (n_vocab).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for no tokens or an id outside
    /// the vocabulary, [`ErrorKind::ContextOverflow`](crate::ErrorKind::ContextOverflow),
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn eval_tokens(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.check_room(tokens, 0)?;
        self.reset();
        self.prompt_logits(tokens)?;
        Ok(&self.logits)
    }

    /// Evaluates one more token after those in the cache, and returns the
    /// logits after it: (n_vocab). A reply in the making is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for an id outside the
    /// vocabulary, [`ErrorKind::ContextOverflow`](crate::ErrorKind::ContextOverflow) when the context
    /// is full, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn append_token(&mut self, token: u32) -> Result<&[f32]> {
        let max = self.cache.len_max();
        if self.tokens.len() == max {
            return Err(Error::context_overflow(format!(
                "the context of {max} tokens is full; shorten the conversation"
            )));
        }
        self.reply = None;
        self.forward(&[token], 1)?;
        self.last_logits(1);
        Ok(&self.logits)
    }

    /// Forgets everything, evaluates `tokens` and hands `on_row` each index
    /// together with the logits after that token: (n_vocab).
    ///
    /// # Errors
    /// Those of [`Self::eval_tokens`].
    pub fn score(&mut self, tokens: &[u32], on_row: impl FnMut(usize, &[f32])) -> Result<()> {
        self.score_where(tokens, |_| true, on_row)
    }

    /// [`Self::score`] for those indices alone that are `wanted`; the logits of
    /// the others are not computed.
    ///
    /// # Errors
    /// Those of [`Self::eval_tokens`].
    pub fn score_where(
        &mut self,
        tokens: &[u32],
        wanted: impl Fn(usize) -> bool,
        mut on_row: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.check_room(tokens, 0)?;
        self.reset();
        let n_vocab = self.logits.len();
        let size = memory::product(&[SCORE_COLUMNS, n_vocab], "logits")?;
        let mut rows = memory::zeroed(size, "logits")?;
        for tokens in tokens.chunks(COLUMNS_MAX) {
            let start = self.tokens.len();
            self.forward(tokens, tokens.len())?;
            let mut first = 0;
            while first < tokens.len() {
                let run = (first..tokens.len()).take(SCORE_COLUMNS);
                let count = run.take_while(|&column| wanted(start + column)).count();
                if count > 0 {
                    let rows = &mut rows[..count * n_vocab];
                    self.logits_of(first, count, rows);
                    for (index, row) in (start + first..).zip(rows.chunks_exact(n_vocab)) {
                        on_row(index, row);
                    }
                }
                first += count.max(1);
            }
        }
        self.last_logits((tokens.len() - 1) % COLUMNS_MAX + 1);
        Ok(())
    }

    /// Forgets all but the first `len` tokens, and a reply in the making.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when the cache holds fewer.
    pub fn rewind(&mut self, len: usize) -> Result<()> {
        if len > self.tokens.len() {
            return Err(Error::invalid_request(format!(
                "the cache holds {} tokens, so it cannot keep {len}",
                self.tokens.len()
            )));
        }
        self.tokens.truncate(len);
        self.reply = None;
        Ok(())
    }

    /// Forgets the conversation and a reply in the making. Memory is kept.
    pub fn reset(&mut self) {
        self.tokens.clear();
        self.reply = None;
    }

    /// Keeps what the cache shares with the beginning of `prompt`, but for the prompt's last token,
    /// whose logits are wanted. A reply in the making is dropped.
    pub(super) fn reuse(&mut self, prompt: &[u32]) {
        let both = prompt.iter().zip(&self.tokens);
        let shared = both.take_while(|(a, b)| a == b).count();
        self.tokens.truncate(shared.min(prompt.len() - 1));
        self.reply = None;
    }

    /// Checks that `tokens` are some, and that they and `more` fit the context.
    pub(super) fn check_room(&self, tokens: &[u32], more: usize) -> Result<()> {
        let max = self.cache.len_max();
        if tokens.is_empty() {
            return Err(Error::invalid_request(
                "the prompt is empty; it must have at least one token",
            ));
        }
        let len = tokens.len() + more;
        if len > max {
            return Err(Error::context_overflow(format!(
                "the prompt has {len} tokens, but the context holds {max}; shorten the conversation"
            )));
        }
        Ok(())
    }

    /// Ids that can be sampled: some files have more embedding rows than tokens.
    fn sampled_len(&self) -> usize {
        self.model.tokenizer().len().min(self.logits.len())
    }

    /// Evaluates `tokens` after all others and fills `logits` from the last.
    pub(super) fn prompt_logits(&mut self, tokens: &[u32]) -> Result<()> {
        let mut left = tokens.len();
        for tokens in tokens.chunks(COLUMNS_MAX) {
            left -= tokens.len();
            let is_last = left == 0;
            self.forward(tokens, usize::from(is_last))?;
            if is_last {
                self.last_logits(tokens.len());
            }
        }
        Ok(())
    }

    /// Evaluates `tokens`, at most [`COLUMNS_MAX`], after all others; logits and hidden states can
    /// be had of the last `outputs` of them.
    pub(super) fn forward(&mut self, tokens: &[u32], outputs: usize) -> Result<()> {
        while self.catch_up()? {}
        let first = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let end = self.tokens.len();
        let result = self.evaluate(first, end, outputs);
        if result.is_err() {
            self.tokens.truncate(first);
        }
        result
    }

    /// Fills the cache at `first..end` from the tokens there.
    pub(super) fn evaluate(&mut self, first: usize, end: usize, outputs: usize) -> Result<()> {
        self.model.llama().forward(
            self.model.kernels(),
            self.model.file(),
            &self.tokens[first..end],
            first,
            outputs,
            &mut self.cache,
            &mut self.scratch,
        )?;
        self.own = end;
        Ok(())
    }

    /// Fills `logits` from the last of the `columns` just evaluated.
    pub(super) fn last_logits(&mut self, columns: usize) {
        self.column_logits(columns - 1);
    }

    /// Fills `logits` from one of the columns just evaluated.
    pub(super) fn column_logits(&mut self, column: usize) {
        let mut logits = std::mem::take(&mut self.logits);
        self.logits_of(column, 1, &mut logits);
        self.logits = logits;
    }

    /// The hidden states of the `columns` just evaluated, as the output matrix reads them:
    /// (columns, n_embd).
    pub(super) fn hidden(&mut self, columns: usize) -> &[f32] {
        let model = &self.model;
        model
            .llama()
            .hidden(model.kernels(), columns, &mut self.scratch)
    }

    fn logits_of(&mut self, first: usize, count: usize, out: &mut [f32]) {
        let model = &self.model;
        model.llama().logits(
            model.kernels(),
            model.file(),
            first,
            count,
            &mut self.scratch,
            out,
        );
    }
}

/// Has the memory free that a prompt of `bytes` takes until it is tokens: as text twice, then tokens and
/// the tokenizer's queue.
fn assure_start(bytes: usize) -> Result<()> {
    let all = bytes.saturating_mul(START_PER_BYTE);
    memory::assure(all.saturating_add(START_BYTES), "the prompt")
}

fn no_reply() -> Error {
    Error::invalid_request("no reply is in the making; call start_chat or start_text first")
}

impl Reply {
    /// The last step of a reply that comes to no end of its own. A constrained one gets the nearest.
    fn cut(&mut self) -> Result<Step> {
        #[cfg(feature = "constrained")]
        if let Some(constraint) = &self.constraint {
            let end = constraint.close().map_err(super::constraint::to_error)?;
            // There are no stop strings beside a constraint, so nothing is held back.
            let mut text = self.stream.push(&end).to_owned();
            text.push_str(self.stream.finish());
            return Ok(Step::Done {
                finish: Finish::Length,
                text,
                usage: self.usage,
            });
        }
        Ok(self.done(Finish::Length))
    }

    /// The last step, with the text that was held back.
    fn done(&mut self, finish: Finish) -> Step {
        let (shown, stopped) = self.stop.push(self.stream.finish());
        let mut text = shown.to_owned();
        if !stopped {
            text.push_str(self.stop.finish());
        }
        Step::Done {
            finish,
            text,
            usage: self.usage,
        }
    }
}
