//! The engine's session, with logits from the GPU for as long as it is sound.

use meetara_engine::Result;
use meetara_engine::generate::{Session, Step};

use crate::reason::Reason;
use crate::session::GpuSession;

/// A conversation that starts on the GPU and goes on on the CPU when that fails: no token is lost,
/// since the engine's session holds them all and evaluates anew what its own cache lacks.
#[derive(Debug)]
pub struct Chat {
    /// The conversation; start replies here.
    pub session: Session,
    gpu: Result<GpuSession, Reason>,
}

impl Chat {
    /// A conversation on `gpu`, or on the CPU for the reason given.
    #[must_use]
    pub fn new(session: Session, gpu: Result<GpuSession, Reason>) -> Self {
        Self { session, gpu }
    }

    /// Why the conversation runs on the CPU; `None` while it runs on the GPU.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.gpu.as_ref().err()
    }

    /// [`Session::step`], the tokens evaluated on the GPU where that works.
    ///
    /// # Errors
    /// Those of [`Session::step`]; none for a failure of the GPU.
    pub async fn step(&mut self) -> Result<Step> {
        step(&mut self.session, &mut self.gpu).await
    }
}

/// [`Session::step`] for those who keep the two halves of a [`Chat`] themselves: the tokens are
/// evaluated on `gpu` until that fails. Then it becomes the reason, and `session` does this step and
/// all that follow.
///
/// # Errors
/// Those of [`Session::step`]; none for a failure of the GPU.
pub async fn step(session: &mut Session, gpu: &mut Result<GpuSession, Reason>) -> Result<Step> {
    if let (Ok(half), Some(wanted)) = (&mut *gpu, session.wanted()) {
        let (context, next) = (wanted.context, wanted.next);
        let logits = match wanted.logits {
            true => half.eval(context, next).await,
            false => half.feed(context, next).map(|()| [].as_slice()),
        };
        match logits {
            Ok(logits) if logits.iter().all(|logit| logit.is_finite()) => {
                return session.provide(logits);
            }
            Ok(_) => {
                let cosine = f64::NAN;
                *gpu = Err(Reason::WrongResult { cosine });
            }
            Err(reason) => *gpu = Err(reason),
        }
    }
    session.step()
}
