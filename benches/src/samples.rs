//! Medians, their spread, and contenders that take turns.

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// The value below which this part (0 to 1) of the samples lies.
    ///
    /// # Panics
    ///
    /// Without samples.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        sorted[(last as f64 * part).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Each sample over that of the same round of `other`: both met the same noise.
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect()
    }

    /// In another unit.
    pub fn scaled(&self, factor: f64) -> Self {
        self.0.iter().map(|sample| sample * factor).collect()
    }

    /// The median, and between which values half of the samples lie.
    pub fn show(&self, digits: usize) -> String {
        format!(
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median(),
            self.quantile(0.25),
            self.quantile(0.75)
        )
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// Measures each contender once a round. The first contender changes from round to round, so that
/// no contender always follows the same one; a first round is not counted.
pub fn interleaved<C>(
    contenders: &[C],
    rounds: usize,
    mut measure: impl FnMut(&C) -> f64,
) -> Vec<Samples> {
    let count = contenders.len();
    let mut samples = vec![Samples::default(); count];
    for round in 0..=rounds {
        for turn in 0..count {
            let which = (round + turn) % count;
            let sample = measure(&contenders[which]);
            if round > 0 {
                samples[which].push(sample);
            }
        }
    }
    samples
}
