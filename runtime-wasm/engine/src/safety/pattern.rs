//! Patterns over plain texts: parsed, compiled and searched for.
//!
//! The rules need a small part of the syntax of regular expressions over 41 signs ([`super::plain`]), and a page must
//! not pay for more: groups `(?:…)`, `|`, `[…]`, `?`, `*`, `+`, `{m,n}`, `\b`, `\.`, `^`, `$`. Finds are those of
//! `regex`: the first place, and of the ways to match there the one that comes first (a test compares the two).
//!
//! ```text
//! text of a pattern ──> Node (a tree) ──> literals: a match holds one of them, so most patterns are not looked for
//!                                    └──> Program ──> backtracking that remembers where it failed:
//!                                                     time and memory grow with (splits) x (signs), whatever the text
//! ```

use super::plain::{SIGNS, STOP, WORD_SIGNS, sign_of};

/// A set of signs, one bit each.
type Signs = u64;

/// More signs of a literal are not looked at.
const LITERAL_MAX: usize = 24;
const ANY: Signs = u64::MAX;
/// Letters and digits, as `\b` has it.
const WORD: Signs = (1 << WORD_SIGNS) - 1;

/// A parsed pattern.
#[derive(Clone, Debug)]
enum Node {
    Set(Signs),
    Row(Vec<Node>),
    /// The first that fits is preferred.
    Either(Vec<Node>),
    /// As many as fit are preferred.
    Repeat {
        node: Box<Node>,
        min: usize,
        max: Option<usize>,
    },
    Assert(Assert),
}

/// What must hold between two signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assert {
    WordBoundary,
    Start,
    End,
}

/// One step of a [`Program`].
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(Signs),
    Assert(Assert),
    /// Both may follow; the first is tried first. `ordinal` counts the program's splits.
    Split {
        first: u32,
        second: u32,
        ordinal: u32,
    },
    Jump(u32),
    Match,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
    /// With which signs a match can go on from each step.
    next: Vec<Signs>,
    splits: usize,
}

/// Room for a search, used again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    stack: Vec<(u32, u32)>,
    /// One bit for each split and place: it was tried there and led nowhere.
    tried: Vec<u64>,
}

/// What every match of a pattern holds at least one of; none: nothing is known. Of each its length, then its signs.
#[derive(Debug)]
pub(super) struct Literals(Box<[u8]>);

/// Reads the text of a pattern, whose `<name>` stand for [`super::rules::PARTS`]; `None` where it is not of the syntax
/// above.
fn parse(text: &str, parts: &[(&str, &str)]) -> Option<Node> {
    let mut parser = Parser {
        rest: text.as_bytes(),
        parts,
    };
    let node = parser.either()?;
    parser.rest.is_empty().then_some(node)
}

struct Parser<'a> {
    rest: &'a [u8],
    parts: &'a [(&'a str, &'a str)],
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn either(&mut self) -> Option<Node> {
        let mut nodes = vec![self.row()?];
        while self.eat("|") {
            nodes.push(self.row()?);
        }
        Some(match nodes.len() {
            1 => nodes.remove(0),
            _ => Node::Either(nodes),
        })
    }

    fn row(&mut self) -> Option<Node> {
        let mut nodes = Vec::new();
        while !matches!(self.peek(), None | Some(b'|' | b')')) {
            let node = self.one()?;
            nodes.push(self.repeated(node)?);
        }
        Some(Node::Row(nodes))
    }

    fn repeated(&mut self, node: Node) -> Option<Node> {
        let (min, max) = match self.peek() {
            Some(b'?') => (0, Some(1)),
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'{') => {
                self.take();
                let min = self.number()?;
                let max = match self.eat(",") {
                    true => self.number()?,
                    false => min,
                };
                if self.peek() != Some(b'}') || min > max {
                    return None;
                }
                (min, Some(max))
            }
            _ => return Some(node),
        };
        self.take();
        let node = Box::new(node);
        Some(Node::Repeat { node, min, max })
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.take();
            number = Some(number.unwrap_or(0) * 10 + usize::from(digit - b'0'));
        }
        number
    }

    fn one(&mut self) -> Option<Node> {
        Some(match self.take()? {
            b'(' => {
                if !self.eat("?:") {
                    return None;
                }
                let node = self.either()?;
                if !self.eat(")") {
                    return None;
                }
                node
            }
            b'<' => {
                let end = self.rest.iter().position(|byte| *byte == b'>')?;
                let name = std::str::from_utf8(self.rest.get(..end)?).ok()?;
                let (_, text) = self.parts.iter().find(|(part, _)| *part == name)?;
                self.rest = self.rest.get(end + 1..)?;
                parse(text, self.parts)?
            }
            b'[' => self.class()?,
            b'\\' => match self.take()? {
                b'b' => Node::Assert(Assert::WordBoundary),
                escaped @ (b'.' | b'?') => Node::Set(1 << sign_of(escaped)?),
                _ => return None,
            },
            b'^' => Node::Assert(Assert::Start),
            b'$' => Node::Assert(Assert::End),
            b'.' | b'?' | b'*' | b'+' | b'{' | b')' => return None,
            other => Node::Set(1 << sign_of(other)?),
        })
    }

    fn class(&mut self) -> Option<Node> {
        let mut signs = 0;
        loop {
            let first = self.take()?;
            if first == b']' {
                return Some(Node::Set(signs));
            }
            let last = match self.rest {
                [b'-', last, ..] if *last != b']' => {
                    let last = *last;
                    self.rest = self.rest.get(2..)?;
                    last
                }
                _ => first,
            };
            for byte in first..=last {
                signs |= 1 << sign_of(byte)?;
            }
        }
    }
}

impl Program {
    /// `None` where the text is not of the syntax above.
    pub(super) fn compile(text: &str, parts: &[(&str, &str)]) -> Option<Self> {
        let mut program = Self {
            steps: Vec::new(),
            next: Vec::new(),
            splits: 0,
        };
        program.emit(&parse(text, parts)?);
        program.steps.push(Step::Match);
        program.next = program.next_signs();
        Some(program)
    }

    fn here(&self) -> u32 {
        self.steps.len() as u32
    }

    fn split(&mut self) -> usize {
        let ordinal = self.splits as u32;
        self.splits += 1;
        self.steps.push(Step::Split {
            first: self.here() + 1,
            second: 0,
            ordinal,
        });
        self.steps.len() - 1
    }

    /// Lets the split at `at` go on here, too.
    fn land(&mut self, at: usize) {
        let here = self.here();
        match &mut self.steps[at] {
            Step::Split { second, .. } => *second = here,
            Step::Jump(to) => *to = here,
            _ => {}
        }
    }

    fn emit(&mut self, node: &Node) {
        match node {
            Node::Set(signs) => self.steps.push(Step::Set(*signs)),
            Node::Assert(assert) => self.steps.push(Step::Assert(*assert)),
            Node::Row(nodes) => nodes.iter().for_each(|node| self.emit(node)),
            Node::Either(nodes) => {
                let mut jumps = Vec::new();
                let (last, others) = nodes.split_last().unwrap_or((node, &[]));
                for other in others {
                    let split = self.split();
                    self.emit(other);
                    jumps.push(self.steps.len());
                    self.steps.push(Step::Jump(0));
                    self.land(split);
                }
                self.emit(last);
                for jump in jumps {
                    self.land(jump);
                }
            }
            Node::Repeat { node, min, max } => {
                for _ in 0..*min {
                    self.emit(node);
                }
                match max {
                    None => {
                        let split = self.split();
                        self.emit(node);
                        self.steps.push(Step::Jump(split as u32));
                        self.land(split);
                    }
                    Some(max) => {
                        let splits: Vec<usize> = (*min..*max)
                            .map(|_| {
                                let split = self.split();
                                self.emit(node);
                                split
                            })
                            .collect();
                        for split in splits {
                            self.land(split);
                        }
                    }
                }
            }
        }
    }

    /// Of each step the signs with which a match can go on; all, where it can end.
    fn next_signs(&self) -> Vec<Signs> {
        let mut next = vec![0; self.steps.len()];
        // Backward jumps (of loops) make more than one round necessary.
        loop {
            let mut changed = false;
            for at in (0..self.steps.len()).rev() {
                let of = |to: u32| next[to as usize];
                let signs = match self.steps[at] {
                    Step::Set(signs) => signs,
                    Step::Assert(_) => of(at as u32 + 1),
                    Step::Split { first, second, .. } => of(first) | of(second),
                    Step::Jump(to) => of(to),
                    Step::Match => ANY,
                };
                changed |= signs != next[at];
                next[at] = signs;
            }
            if !changed {
                return next;
            }
        }
    }

    /// The first match in `text` (signs) that begins at `from` or later: where it begins and ends.
    pub(super) fn find(
        &self,
        text: &[u8],
        from: usize,
        scratch: &mut Scratch,
    ) -> Option<(usize, usize)> {
        scratch.tried.clear();
        let places = self.splits * (text.len() + 1);
        scratch.tried.resize(places.div_ceil(64), 0);
        let first = self.next.first().copied()?;
        (from..=text.len()).find_map(|start| {
            if !can_go_on(first, text, start) {
                return None;
            }
            let end = self.match_at(text, start, scratch)?;
            Some((start, end))
        })
    }

    /// Where the match that begins at `start` ends. What `scratch` says was tried was tried from earlier starts, and
    /// how one comes to a step says nothing about what can follow.
    fn match_at(&self, text: &[u8], start: usize, scratch: &mut Scratch) -> Option<usize> {
        let Scratch { stack, tried } = scratch;
        stack.clear();
        stack.push((0, start as u32));
        while let Some((step, place)) = stack.pop() {
            let (mut step, mut place) = (step as usize, place as usize);
            loop {
                match self.steps[step] {
                    Step::Match => return Some(place),
                    Step::Set(signs) => match text.get(place) {
                        Some(sign) if signs & (1 << sign) != 0 => {
                            step += 1;
                            place += 1;
                        }
                        _ => break,
                    },
                    Step::Assert(assert) if holds(assert, text, place) => step += 1,
                    Step::Assert(_) => break,
                    Step::Jump(to) => step = to as usize,
                    Step::Split {
                        first,
                        second,
                        ordinal,
                    } => {
                        let bit = ordinal as usize * (text.len() + 1) + place;
                        let (word, mask) = (&mut tried[bit / 64], 1 << (bit % 64));
                        if *word & mask != 0 {
                            break;
                        }
                        *word |= mask;
                        let [to_first, to_second] = [first, second]
                            .map(|to| can_go_on(self.next[to as usize], text, place));
                        step = match (to_first, to_second) {
                            (true, true) => {
                                stack.push((second, place as u32));
                                first as usize
                            }
                            (true, false) => first as usize,
                            (false, true) => second as usize,
                            (false, false) => break,
                        };
                    }
                }
            }
        }
        None
    }
}

fn can_go_on(signs: Signs, text: &[u8], place: usize) -> bool {
    match text.get(place) {
        Some(sign) => signs & (1 << sign) != 0,
        None => signs == ANY,
    }
}

fn holds(assert: Assert, text: &[u8], place: usize) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(|sign| WORD & (1 << sign) != 0)
    };
    match assert {
        Assert::Start => place == 0,
        Assert::End => place == text.len(),
        Assert::WordBoundary => is_word(place.checked_sub(1)) != is_word(Some(place)),
    }
}

impl Literals {
    /// Those of a pattern.
    pub(super) fn of(text: &str, parts: &[(&str, &str)]) -> Self {
        let literals = parse(text, parts).and_then(|node| needed(&node));
        let mut flat = Vec::new();
        for literal in literals.unwrap_or_default() {
            let literal = &literal[..literal.len().min(LITERAL_MAX)];
            flat.push(literal.len() as u8);
            flat.extend_from_slice(literal);
        }
        Self(flat.into())
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (literal, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some(literal)
        })
    }
}

/// How much a list of literals tells: few and long ones are rare.
fn worth(literals: &[Vec<u8>]) -> usize {
    let shortest = literals.iter().map(Vec::len).min().unwrap_or(0);
    shortest.min(8) * 4 + 16_usize.saturating_sub(literals.len().ilog2() as usize)
}

fn needed(node: &Node) -> Option<Vec<Vec<u8>>> {
    match node {
        Node::Set(_) | Node::Assert(_) => None,
        Node::Repeat { node, min, .. } => match min {
            0 => None,
            _ => needed(node),
        },
        Node::Either(nodes) => {
            let mut all = Vec::new();
            for node in nodes {
                all.extend(needed(node)?);
            }
            Some(all)
        }
        Node::Row(nodes) => {
            let mut best: Option<Vec<Vec<u8>>> = None;
            let mut consider = |found: Vec<Vec<u8>>| {
                if best.as_ref().is_none_or(|best| worth(&found) > worth(best)) {
                    best = Some(found);
                }
            };
            let mut run = Vec::new();
            for node in nodes {
                match node {
                    // Full stops are put in for what is taken out, so they say nothing about the text before.
                    Node::Set(signs) if signs.is_power_of_two() && *signs < 1 << STOP => {
                        run.push(signs.trailing_zeros() as u8);
                        continue;
                    }
                    Node::Assert(_) => continue,
                    _ => {}
                }
                if run.len() > 1 {
                    consider(vec![std::mem::take(&mut run)]);
                }
                run.clear();
                if let Some(found) = needed(node) {
                    consider(found);
                }
            }
            if run.len() > 1 {
                consider(vec![run]);
            }
            best
        }
    }
}

/// Which runs of two and of three signs a text has.
#[derive(Debug)]
pub(super) struct Runs {
    pairs: Vec<u64>,
    triples: Vec<u64>,
}

impl Runs {
    pub(super) fn new(text: &[u8]) -> Self {
        let room = |len: u32| vec![0; SIGNS.pow(len).div_ceil(64)];
        let (mut pairs, mut triples) = (room(2), room(3));
        for window in text.windows(2) {
            mark(&mut pairs, window);
        }
        for window in text.windows(3) {
            mark(&mut triples, window);
        }
        Self { pairs, triples }
    }

    /// Whether a match that needs one of `literals` is possible.
    pub(super) fn may_hold(&self, literals: &Literals) -> bool {
        literals.0.is_empty()
            || literals.iter().any(|literal| match literal.len() {
                2 => has(&self.pairs, literal),
                _ => literal.windows(3).all(|run| has(&self.triples, run)),
            })
    }
}

fn index(run: &[u8]) -> usize {
    run.iter()
        .fold(0, |index, sign| index * SIGNS + usize::from(*sign))
}

fn mark(bits: &mut [u64], run: &[u8]) {
    let at = index(run);
    bits[at / 64] |= 1 << (at % 64);
}

fn has(bits: &[u64], run: &[u8]) -> bool {
    let at = index(run);
    bits[at / 64] & (1 << (at % 64)) != 0
}
