//! The tokens of a model as a tree of bytes, which all constraints of the model share.

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use crate::error::{Error, Result};

/// Longer tokens are never allowed: the tree's depth is a byte.
const TOKEN_BYTES_MAX: usize = 128;

/// How much work and memory one rule may take. Those of llguidance's defaults that are named here are
/// lower: they are meant for schemas of megabytes, and 250,000 states would take half a gigabyte.
const LEXER_STATES_MAX: usize = 20_000;
const GRAMMAR_SYMBOLS_MAX: usize = 100_000;

/// What a token stands for.
#[derive(Clone, Copy, Debug)]
pub enum Token<'a> {
    /// These bytes of the reply; none: it is never allowed.
    Bytes(&'a [u8]),
    /// A marker of this name, which is no text: allowed only where a grammar names it.
    Marker(&'a [u8]),
    /// A marker that ends a reply.
    End(&'a [u8]),
}

/// The tokens of a model.
pub struct Vocabulary {
    factory: ParserFactory,
    alphabet: Arc<[(u8, u32)]>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// The vocabulary that `bytes` hold: for every token its length, a byte; its kind, a byte (0: bytes,
    /// 1: marker, 2: marker that ends a reply); and what it stands for.
    ///
    /// # Errors
    /// Those of [`Self::new`]; [`Error::Vocabulary`] when `bytes` hold something else.
    pub fn read(mut bytes: &[u8]) -> Result<Self> {
        const DAMAGED: Error = Error::Vocabulary("the list of tokens is damaged");
        let mut tokens = Vec::new();
        while let [len, kind, rest @ ..] = bytes {
            let (token, rest) = rest.split_at_checked((*len).into()).ok_or(DAMAGED)?;
            tokens.push(match kind {
                0 => Token::Bytes(token),
                1 => Token::Marker(token),
                2 => Token::End(token),
                _ => return Err(DAMAGED),
            });
            bytes = rest;
        }
        if !bytes.is_empty() {
            return Err(DAMAGED);
        }
        Self::new(&tokens)
    }

    /// The vocabulary of `tokens`, by id.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when none of them ends a reply, or there are too many.
    pub fn new(tokens: &[Token<'_>]) -> Result<Self> {
        let marker = TokTrie::SPECIAL_TOKEN_MARKER;
        let words: Vec<Vec<u8>> = tokens
            .iter()
            .map(|&token| match token {
                // The marker's byte is part of no UTF-8.
                Token::Bytes(bytes)
                    if bytes.len() <= TOKEN_BYTES_MAX && !bytes.contains(&marker) =>
                {
                    bytes.to_vec()
                }
                Token::Marker(name) | Token::End(name) if name.len() < TOKEN_BYTES_MAX => {
                    [&[marker], name].concat()
                }
                _ => Vec::new(),
            })
            .collect();
        let len = u32::try_from(words.len())
            .map_err(|_| Error::Vocabulary("the vocabulary has more tokens than ids"))?;
        let ends = (0..len).zip(tokens);
        let ends = ends.filter_map(|(id, token)| matches!(token, Token::End(_)).then_some(id));
        let ends: Vec<u32> = ends.collect();
        let Some(&first) = ends.first() else {
            return Err(Error::Vocabulary(
                "the vocabulary has no token that ends a reply, which a constrained one needs",
            ));
        };
        let tree = TokTrie::from(&TokRxInfo::new(len, first), &words).with_eos_tokens(&ends);
        let alphabet =
            (0..=u8::MAX).filter_map(|byte| Some((byte, tree.token_id_at_bytes(&[byte])?)));
        let alphabet = alphabet.collect();
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(tree));
        let capabilities = InferenceCapabilities::default();
        // Masks of whole classes of tokens, such as those of a string's inside, are made once.
        let slices = SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&env, capabilities, &slices)
            .map_err(|_| Error::Vocabulary("the vocabulary cannot be sorted into classes"))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_lexer_states: LEXER_STATES_MAX,
            max_grammar_size: GRAMMAR_SYMBOLS_MAX,
            precompute_large_lexemes: false,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self { factory, alphabet })
    }

    pub(crate) fn alphabet(&self) -> Arc<[(u8, u32)]> {
        Arc::clone(&self.alphabet)
    }

    /// Compiles `grammar`; the error is llguidance's own, which may quote it.
    pub(crate) fn compile(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            None => Ok(matcher),
            Some(error) => Err(error),
        }
    }
}
