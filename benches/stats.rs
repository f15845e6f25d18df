use std::time::Duration;

/// The value below which `share` of the samples lie. They need not be sorted.
pub fn percentile<T: Copy + PartialOrd>(samples: &[T], share: f64) -> T {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    let last = sorted.len() - 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "far fewer samples than 2^52, and not below zero"
    )]
    let at = (last as f64 * share).round() as usize;
    sorted[at]
}

pub fn median<T: Copy + PartialOrd>(samples: &[T]) -> T {
    percentile(samples, 0.5)
}

/// Per second.
pub fn rate(count: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count / time.as_secs_f64()
}

/// The mean of a sum.
pub fn per_call(sum: f64, calls: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let calls = calls as f64;
    sum / calls
}
