//! Is the GPU right, and is it faster? Asked once, before a conversation begins.

use meetara_engine::generate::Session;

use crate::reason::Reason;
use crate::session::GpuSession;

/// Right kernels stay above: the CPU quantises activations to 8 bits, the GPU does not.
const COSINE_MIN: f64 = 0.995;
/// Tokens of the prompt.
const PROMPT: usize = 8;
/// Tokens that are timed, one at a time.
const TIMED: usize = 8;
/// A GPU that is slower than the CPU by this factor is not timed to the end.
const HOPELESS: f64 = 4.0;

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The cosine of the two vectors of logits after a short prompt.
    pub cosine: f64,
    /// Time for one token on the GPU.
    pub gpu_ms: f64,
    /// Time for one token on the CPU.
    pub cpu_ms: f64,
}

impl Report {
    /// Whether the GPU should be used.
    ///
    /// # Errors
    /// [`Reason::WrongResult`], [`Reason::Slower`].
    pub fn verdict(&self) -> Result<(), Reason> {
        self.correct()?;
        if self.gpu_ms > self.cpu_ms {
            return Err(Reason::Slower {
                gpu_ms: self.gpu_ms,
                cpu_ms: self.cpu_ms,
            });
        }
        Ok(())
    }

    /// Whether the GPU's logits are the model's, however long they took.
    ///
    /// # Errors
    /// [`Reason::WrongResult`].
    pub fn correct(&self) -> Result<(), Reason> {
        if self.cosine >= COSINE_MIN {
            return Ok(());
        }
        Err(Reason::WrongResult {
            cosine: self.cosine,
        })
    }
}

/// Evaluates a short prompt and a few tokens on both. `now_ms` reads a clock that never goes back.
/// `cpu` forgets its conversation.
///
/// # Errors
/// [`Reason::DeviceLost`], [`Reason::Failed`]; [`Reason::Unsupported`] when the CPU fails too.
pub async fn self_test(
    gpu: &mut GpuSession,
    cpu: &mut Session,
    now_ms: impl Fn() -> f64,
) -> Result<Report, Reason> {
    let n_vocab = cpu.model().config().n_vocab;
    let count = (PROMPT + TIMED).min(cpu.context_max() as usize).max(2);
    let tokens: Vec<u32> = (0..count).map(|i| (i * n_vocab / count) as u32).collect();
    let (prompt, timed) = tokens.split_at(count.saturating_sub(TIMED).max(1));
    let refused = |error: meetara_engine::Error| Reason::unsupported(error.message().to_owned());

    let right = cpu.eval_tokens(prompt).map_err(refused)?.to_vec();
    let cosine = cosine(gpu.eval(&[], prompt).await?, &right);
    let start = now_ms();
    for &token in timed {
        cpu.append_token(token).map_err(refused)?;
    }
    let cpu_ms = (now_ms() - start) / timed.len() as f64;
    let start = now_ms();
    let mut gpu_ms = 0.0;
    for i in 0..timed.len() {
        gpu.eval(&tokens[..prompt.len() + i], &timed[i..=i]).await?;
        gpu_ms = (now_ms() - start) / (i + 1) as f64;
        if gpu_ms > HOPELESS * cpu_ms {
            break;
        }
    }
    let report = Report {
        cosine,
        gpu_ms,
        cpu_ms,
    };
    cpu.reset();
    Ok(report)
}

/// The cosine of the angle between two vectors; NaN when one is not finite.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        let products = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
