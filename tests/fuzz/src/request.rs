//! A JSON body, given to every route's reader, and on to the engine's.

use meetara_api::{
    AnalyzeRequest, ApiError, ChatRequest, ChooseRequest, EmbeddingsRequest, Sampling, TextRequest,
};
use meetara_engine::generate::GenerateParams;
use meetara_engine::generate::sampler::Sampler;

/// Feeds `data` as a body.
pub fn run(data: &[u8]) {
    if let Some(request) = checked(ChatRequest::parse(data)) {
        assert!(!request.messages.is_empty());
        (0..request.n).for_each(|index| reaches_the_engine(&request.sampling_of(index, 7)));
    }
    if let Some(request) = checked(TextRequest::parse(data)) {
        reaches_the_engine(&request.sampling);
    }
    if let Some(request) = checked(EmbeddingsRequest::parse(data)) {
        let vectors = vec![vec![0.5]; request.inputs.len()];
        assert_eq!(
            request.reply("m", &vectors, 3)["data"]
                .as_array()
                .map(Vec::len),
            Some(vectors.len())
        );
    }
    checked(ChooseRequest::parse(data));
    checked(AnalyzeRequest::parse(data));
    // The component takes the engine's own form.
    if let Ok(params) = serde_json::from_slice::<GenerateParams>(data) {
        draw(&params);
    }
}

/// A refusal is a client's fault, says so, and can be sent.
fn checked<T>(parsed: Result<T, ApiError>) -> Option<T> {
    parsed
        .map_err(|error| {
            assert!(
                (400..500).contains(&error.status),
                "status {}",
                error.status
            );
            assert!(!error.error.message.is_empty());
        })
        .ok()
}

/// What the API lets pass, the engine takes.
fn reaches_the_engine(sampling: &Sampling) {
    let json = serde_json::to_vec(sampling).expect("a sampling is written as JSON");
    let params: GenerateParams =
        serde_json::from_slice(&json).expect("the engine reads the API's sampling");
    assert_eq!(
        params.validate(),
        Ok(()),
        "the engine refuses what the API let pass"
    );
    draw(&params);
}

/// Draws a few tokens from fixed logits.
fn draw(params: &GenerateParams) {
    let logits: Vec<f32> = (0..40u16).map(|id| f32::from(id * 7 % 40) - 20.0).collect();
    let Ok(mut sampler) = Sampler::new(params, logits.len()) else {
        return;
    };
    for _ in 0..4 {
        let id = sampler.sample(&logits).expect("finite logits give a token");
        assert!((id as usize) < logits.len());
        sampler.accept(id);
    }
}
