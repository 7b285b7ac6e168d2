//! `POST /v1/chat/completions`: runs the engine step by step and gives way after each.

use crate::config::Config;
use crate::pool::{Lease, engine_error};
use crate::read::{self, Before};
use crate::{adapters, body, isolate, load, reply};
use futures_util::stream;
use meetara_api::{
    ApiError, ChatRequest, Choice, ChoiceLogprobs, Constraint, FinishReason, Head, SSE_DONE,
    Sampling, TokenLogprob, TopLogprob, Usage, turns_of,
};
use meetara_engine::generate::{self, Finish, GenerateParams, Logprobs, Step};
use meetara_engine::template::Message;
use std::time::Duration;
use worker::{Delay, Env, Request, Response};

/// The handler.
///
/// Whatever is wrong with a request is found before the reply begins, so that it gets a status.
pub async fn completions(
    mut request: Request,
    env: &Env,
    config: &Config,
) -> Result<Response, ApiError> {
    let signal = request.inner().signal();
    let country = request.cf().and_then(worker::Cf::country);
    let body = body::read(&mut request).await?;
    let mut request = ChatRequest::parse(&body)?;
    let is_auto = request.model == read::AUTO;
    if is_auto {
        request.model.clone_from(&config.model_id);
    }
    // What is wrong with a request is said before anything is read.
    adapters::choose(config, &request.model, &request.adapters)?;
    let turns = turns_of(&request.messages);
    let model = if is_auto { read::AUTO } else { &request.model };
    let before = read::before(env, config, model, &turns, &request.meetara, country).await?;
    let Before {
        meetara,
        help,
        routed,
    } = before;
    request.adapters.extend(routed);
    let mut chosen = adapters::choose(config, &request.model, &request.adapters)?;
    if is_auto {
        chosen.id = read::AUTO.to_owned();
    }
    if let Some(help) = help {
        let head = Head::new(
            random()?,
            isolate::now_ms() / 1000,
            &chosen.id,
            String::new(),
            request.include_usage,
        );
        return instead(head.with_meetara(&meetara), &help, &request);
    }
    let postscript = postscript(&request, meetara.disclaimer.as_deref());
    let loaded = load::model(env, config).await?;
    let mix = chosen.mix(env, config, &loaded).await?;
    let now_ms = isolate::now_ms();
    let lease = isolate::with(|isolate| {
        isolate.pool.lease(
            &loaded.model,
            &mix,
            config.context_max,
            config.replies_max,
            now_ms,
        )
    })?;
    lease.end_on(&signal);
    let head = Head::new(
        random()?,
        now_ms / 1000,
        &chosen.id,
        loaded.fingerprint,
        request.include_usage,
    )
    .with_meetara(&meetara);
    let is_streamed = request.stream;
    let mut replies = Replies::new(lease, request, random()? as u64);
    replies.postscript = postscript;
    replies.start()?;
    if is_streamed {
        streamed(head, replies)
    } else {
        whole(head, replies).await
    }
}

/// The disclaimer that ends each answer: none where an earlier answer had it, or the client shows it itself.
fn postscript(request: &ChatRequest, disclaimer: Option<&str>) -> String {
    let Some(disclaimer) = disclaimer else {
        return String::new();
    };
    let mut answers = request.messages.iter().filter(|m| m.role == "assistant");
    let was_said = answers.any(|message| message.content.ends_with(disclaimer));
    let sampling = &request.sampling;
    let is_plain = sampling.constraint.is_none() && sampling.top_logprobs.is_none();
    if is_plain && !was_said && !request.meetara.no_disclaimer_text {
        format!("\n\n{disclaimer}")
    } else {
        String::new()
    }
}

/// A fixed text in the place of each answer.
fn instead(head: Head, text: &str, request: &ChatRequest) -> Result<Response, ApiError> {
    let (reason, usage) = (FinishReason::ContentFilter, Usage::default());
    if !request.stream {
        let choice = |index| Choice::new(index, text.to_owned(), reason);
        return reply::json(&head.completion((0..request.n).map(choice).collect(), usage));
    }
    let mut events = String::new();
    for index in 0..request.n {
        events.push_str(&head.sse_role(index));
        events.push_str(&head.sse_text(index, text, None));
        events.push_str(&head.sse_finish(index, reason));
    }
    events.push_str(&head.sse_usage(&usage));
    events.push_str(SSE_DONE);
    let id = head.id.clone();
    reply::events(&id, stream::iter([Ok(events.into_bytes())]))
}

/// 128 random bits.
fn random() -> Result<u128, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| ApiError::internal("There is no source of randomness."))?;
    Ok(u128::from_le_bytes(bytes))
}

/// The answers to one request, one after the other over one session.
struct Replies {
    lease: Lease,
    messages: Vec<Message>,
    /// How to draw each answer: (n).
    params: Vec<GenerateParams>,
    /// The answer in progress.
    index: u32,
    /// Its cost so far.
    current: Usage,
    /// Cost of the answers that are complete.
    total: Option<Usage>,
    /// Of the tokens whose text was not told yet; stays empty unless they were asked for.
    logprobs: Vec<TokenLogprob>,
    /// What each answer must be.
    constraint: Option<Constraint>,
    /// What ends each answer.
    postscript: String,
}

/// What a step brought.
struct Progress {
    /// The answer it belongs to.
    index: u32,
    /// More of its text, maybe nothing.
    text: String,
    /// Of the tokens since the last piece, if asked for.
    logprobs: Option<ChoiceLogprobs>,
    /// Given when the answer is complete.
    finish: Option<FinishReason>,
    /// Given when all answers are complete.
    usage: Option<Usage>,
}

impl Replies {
    fn new(lease: Lease, request: ChatRequest, seed: u64) -> Self {
        let constraint = request.sampling.constraint.clone();
        let params = (0..request.n)
            .map(|index| generate_params(request.sampling_of(index, seed)))
            .collect();
        let messages = request
            .messages
            .into_iter()
            .map(|m| Message::new(m.role, m.content))
            .collect();
        Self {
            lease,
            messages,
            params,
            index: 0,
            current: Usage::default(),
            total: None,
            logprobs: Vec::new(),
            constraint,
            postscript: String::new(),
        }
    }

    /// The log-probabilities for the next piece of text.
    fn take_logprobs(&mut self) -> Option<ChoiceLogprobs> {
        let params = self.params.get(self.index as usize)?;
        params.top_logprobs?;
        Some(ChoiceLogprobs::new(std::mem::take(&mut self.logprobs)))
    }

    /// Checks and prepares the answer `index`.
    fn start(&mut self) -> Result<(), ApiError> {
        let params = self.params.get(self.index as usize);
        let params = params.ok_or_else(|| ApiError::internal("No answer is left to give."))?;
        let mut session = self.lease.renew()?.borrow_mut();
        let started = session
            .start_chat(&self.messages, params)
            .map_err(|error| engine_error(&error).of_constraint(self.constraint.as_ref()))?;
        self.current = Usage::new(started.prompt_tokens, 0, started.cached_tokens);
        Ok(())
    }

    /// Runs the engine until there is something to tell, giving way before every step.
    async fn next(&mut self) -> Result<Progress, ApiError> {
        loop {
            Delay::from(Duration::ZERO).await;
            let step = {
                let mut session = self.lease.renew()?.borrow_mut();
                let step = session.step().map_err(|error| engine_error(&error))?;
                let logprobs = session.take_logprobs().map(token_logprob);
                self.logprobs.extend(logprobs);
                step
            };
            match step {
                Step::Prefill { .. } => {}
                Step::Token { mut text, .. } => {
                    isolate::with(|isolate| isolate.tokens_generated += 1);
                    self.current.completion_tokens += 1;
                    // Better a short answer than one that the platform cuts without a word.
                    if worker::signal::is_near_cpu_limit() {
                        self.params.truncate(self.index as usize + 1);
                        let end = self.lease.renew()?.borrow_mut().end();
                        text.push_str(&end.map_err(|error| engine_error(&error))?);
                        return self.finish(text, FinishReason::Length);
                    }
                    if !text.is_empty() {
                        return Ok(Progress {
                            index: self.index,
                            text,
                            logprobs: self.take_logprobs(),
                            finish: None,
                            usage: None,
                        });
                    }
                }
                Step::Done {
                    finish,
                    text,
                    usage,
                } => {
                    self.current.completion_tokens = usage.completion_tokens;
                    self.current = self.current.with_details(
                        usage.drafted_tokens,
                        usage.accepted_tokens,
                        usage.dropped_messages,
                    );
                    let reason = match finish {
                        Finish::Stop => FinishReason::Stop,
                        Finish::Length => FinishReason::Length,
                    };
                    return self.finish(text, reason);
                }
            }
        }
    }

    /// Books the answer in progress and prepares the next one, if there is one.
    fn finish(&mut self, mut text: String, reason: FinishReason) -> Result<Progress, ApiError> {
        text.push_str(&self.postscript);
        let mut cost = self.current;
        cost.total_tokens = cost.prompt_tokens.saturating_add(cost.completion_tokens);
        let logprobs = self.take_logprobs();
        let total = match self.total {
            None => cost,
            Some(mut total) => {
                total.add_choice(&cost);
                total
            }
        };
        self.total = Some(total);
        let index = self.index;
        self.index += 1;
        let is_last = self.index as usize >= self.params.len();
        if !is_last {
            self.start()?;
        }
        Ok(Progress {
            index,
            text,
            logprobs,
            finish: Some(reason),
            usage: is_last.then_some(total),
        })
    }
}

/// The engine's parameters; what the client left out has the engine's defaults.
fn generate_params(sampling: Sampling) -> GenerateParams {
    let defaults = GenerateParams::default();
    GenerateParams {
        temperature: sampling.temperature.unwrap_or(defaults.temperature),
        top_k: sampling.top_k.unwrap_or(defaults.top_k),
        top_p: sampling.top_p.unwrap_or(defaults.top_p),
        min_p: sampling.min_p.unwrap_or(defaults.min_p),
        repeat_penalty: sampling.repeat_penalty.unwrap_or(defaults.repeat_penalty),
        presence_penalty: sampling
            .presence_penalty
            .unwrap_or(defaults.presence_penalty),
        frequency_penalty: sampling
            .frequency_penalty
            .unwrap_or(defaults.frequency_penalty),
        seed: sampling.seed.unwrap_or(defaults.seed),
        max_tokens: sampling.max_tokens,
        stop: sampling.stop,
        logit_bias: sampling.logit_bias,
        top_logprobs: sampling.top_logprobs,
        draft_max: sampling.draft_max.unwrap_or(defaults.draft_max),
        lookup_ngram: sampling.lookup_ngram.unwrap_or(defaults.lookup_ngram),
        context_shift: sampling.context_shift.unwrap_or(defaults.context_shift),
        constraint: sampling.constraint.map(|constraint| match constraint {
            Constraint::JsonObject => generate::Constraint::JsonObject,
            Constraint::JsonSchema(schema) => generate::Constraint::JsonSchema(schema),
            Constraint::Lark(grammar) => generate::Constraint::Lark(grammar),
        }),
        ..defaults
    }
}

/// The engine's log-probabilities in the API's words.
fn token_logprob(found: Logprobs) -> TokenLogprob {
    let token = |t: generate::TokenLogprob| TopLogprob::new(t.bytes, t.logprob);
    TokenLogprob {
        token: token(found.token),
        top_logprobs: found.top.into_iter().map(token).collect(),
    }
}

async fn whole(head: Head, mut replies: Replies) -> Result<Response, ApiError> {
    let mut choices = Vec::new();
    let mut content = String::new();
    let mut tokens = Vec::new();
    loop {
        let progress = replies.next().await?;
        content.push_str(&progress.text);
        let wanted = progress.logprobs.is_some();
        tokens.extend(progress.logprobs.into_iter().flat_map(|l| l.content));
        if let Some(reason) = progress.finish {
            let choice = Choice::new(progress.index, std::mem::take(&mut content), reason);
            let logprobs = wanted.then(|| ChoiceLogprobs::new(std::mem::take(&mut tokens)));
            choices.push(choice.with_logprobs(logprobs));
        }
        if let Some(usage) = progress.usage {
            return reply::json(&head.completion(choices, usage));
        }
    }
}

/// A stream that is under way: first the role, then one event per piece of text.
struct Streamed {
    head: Head,
    replies: Replies,
    /// Whether the role of the answer in progress was told.
    is_opened: bool,
    is_ended: bool,
}

fn streamed(head: Head, replies: Replies) -> Result<Response, ApiError> {
    let id = head.id.clone();
    let state = Streamed {
        head,
        replies,
        is_opened: false,
        is_ended: false,
    };
    // Dropping the stream, which workerd does when the client goes away, drops the lease.
    let events = stream::unfold(state, |mut state| async move {
        let events = state.next().await?;
        Some((Ok(events.into_bytes()), state))
    });
    reply::events(&id, events)
}

impl Streamed {
    /// The next events, or `None` after the last.
    async fn next(&mut self) -> Option<String> {
        if self.is_ended {
            return None;
        }
        if !self.is_opened {
            self.is_opened = true;
            return Some(self.head.sse_role(self.replies.index));
        }
        let progress = match self.replies.next().await {
            Ok(progress) => progress,
            Err(error) => {
                self.is_ended = true;
                return Some(error.to_sse());
            }
        };
        let mut events = String::new();
        let has_tokens = progress
            .logprobs
            .as_ref()
            .is_some_and(|l| !l.content.is_empty());
        if !progress.text.is_empty() || has_tokens {
            let text = self
                .head
                .sse_text(progress.index, &progress.text, progress.logprobs);
            events.push_str(&text);
        }
        if let Some(reason) = progress.finish {
            events.push_str(&self.head.sse_finish(progress.index, reason));
            self.is_opened = false;
        }
        if let Some(usage) = progress.usage {
            events.push_str(&self.head.sse_usage(&usage));
            events.push_str(SSE_DONE);
            self.is_ended = true;
        }
        Some(events)
    }
}
