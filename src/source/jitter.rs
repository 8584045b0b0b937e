//! Random numbers for windows and backoffs.

/// A source of random numbers in `[0, 1]`.
#[derive(Debug)]
pub(super) enum Jitter {
    Random(fastrand::Rng),
    #[cfg(test)]
    Fixed(f64),
}

impl Jitter {
    pub(super) fn draw(&mut self) -> f64 {
        match self {
            Self::Random(rng) => rng.f64(),
            #[cfg(test)]
            Self::Fixed(draw) => *draw,
        }
    }
}
