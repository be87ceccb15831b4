//! AdamW over whole arrays, and over the few rows of a table that a training run ever touches.
//!
//! A pretrained vocabulary has tens of thousands of rows, of which a data set may use a few thousand.
//! A row that was never touched has zero moments, so its AdamW step is the decay alone; that is kept
//! as one running factor and applied when the row is first touched, or at the end. The result is
//! that of AdamW over the whole table but for rounding, with as much less memory traffic as rows are
//! never touched: none of a vocabulary that was made from the same texts.
//!
//! Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, Algorithm 2.

use multiversion::multiversion;
use rayon::prelude::*;

pub(super) const BETA_1: f32 = 0.9;
pub(super) const BETA_2: f32 = 0.999;
pub(super) const EPSILON: f32 = 1e-8;

/// Elements a task updates: fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 15;

/// The numbers of one optimizer step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Learning rate.
    pub rate: f32,
    /// Factor of every gradient: global-norm clipping.
    pub clip: f32,
    /// `1 - BETA_1^t` and `1 - BETA_2^t`.
    correction: (f32, f32),
}

impl Step {
    /// Step number `t`, from 1.
    pub(super) fn new(t: usize, rate: f32, clip: f32) -> Self {
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        Self {
            rate,
            clip,
            correction: (1.0 - BETA_1.powi(t), 1.0 - BETA_2.powi(t)),
        }
    }

    /// What an optimizer inside a graph is fed: the rate over the first correction, one over the
    /// root of the second, and the factor of decaying weights.
    pub(super) fn scalars(&self, weight_decay: f32) -> [f32; 3] {
        [
            self.rate / self.correction.0,
            1.0 / self.correction.1.sqrt(),
            1.0 - self.rate * weight_decay,
        ]
    }

    /// Updates values and moments in place; `decay` is the factor `1 - rate * weight_decay`.
    fn update(&self, arrays: &mut Arrays<'_>) {
        let factors = Factors {
            clip: self.clip,
            size: self.rate / self.correction.0,
            root: 1.0 / self.correction.1.sqrt(),
            decay: arrays.decay,
        };
        update(arrays.p, arrays.g, arrays.m, arrays.v, factors);
    }
}

/// What an update multiplies by.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    clip: f32,
    size: f32,
    root: f32,
    decay: f32,
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], factors: Factors) {
    let Factors {
        clip,
        size,
        root,
        decay,
    } = factors;
    let moments = m.iter_mut().zip(v.iter_mut());
    for ((p, g), (m, v)) in p.iter_mut().zip(g).zip(moments) {
        let g = g * clip;
        *m = BETA_1 * *m + (1.0 - BETA_1) * g;
        *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
        *p = *p * decay - size * *m / (v.sqrt() * root + EPSILON);
    }
}

/// Equal-sized parts of one parameter.
pub(super) struct Arrays<'a> {
    /// Values.
    pub p: &'a mut [f32],
    /// Gradients.
    pub g: &'a [f32],
    /// First moments.
    pub m: &'a mut [f32],
    /// Second moments.
    pub v: &'a mut [f32],
    /// Factor of the values before the step.
    pub decay: f32,
}

impl<'a> Arrays<'a> {
    fn chunks(self) -> impl Iterator<Item = Arrays<'a>> {
        let decay = self.decay;
        let values = self.p.chunks_mut(CHUNK).zip(self.g.chunks(CHUNK));
        let moments = self.m.chunks_mut(CHUNK).zip(self.v.chunks_mut(CHUNK));
        values
            .zip(moments)
            .map(move |((p, g), (m, v))| Arrays { p, g, m, v, decay })
    }
}

/// Updates all arrays, in parallel.
pub(super) fn update_all(arrays: Vec<Arrays<'_>>, step: Step) {
    let mut tasks: Vec<Arrays<'_>> = arrays.into_iter().flat_map(Arrays::chunks).collect();
    tasks.par_iter_mut().for_each(|task| step.update(task));
}

/// The sum of squares of all arrays, the same for any number of threads.
pub(super) fn sum_of_squares(arrays: &[&[f32]]) -> f64 {
    let tasks: Vec<&[f32]> = arrays.iter().flat_map(|a| a.chunks(CHUNK)).collect();
    let sums: Vec<f64> = tasks.par_iter().map(|task| squares(task)).collect();
    sums.iter().sum()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn squares(values: &[f32]) -> f64 {
    let (lanes, rest) = values.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for lane in lanes {
        for (sum, value) in sums.iter_mut().zip(lane) {
            *sum += value * value;
        }
    }
    let rest: f64 = rest.iter().map(|v| f64::from(v * v)).sum();
    rest + sums.iter().map(|s| f64::from(*s)).sum::<f64>()
}

/// The moments of the rows of a table that were touched so far.
#[derive(Debug)]
pub(super) struct RowMoments {
    width: usize,
    /// Slot of each row, or `NONE`.
    slots: Vec<u32>,
    /// Row of each slot.
    rows: Vec<usize>,
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// What decay has made of an untouched row.
    decayed: f32,
}

const NONE: u32 = u32::MAX;

impl RowMoments {
    /// For a table `[rows, width]` of fewer than 2^24 rows.
    pub(super) fn new(rows: usize, width: usize) -> Self {
        Self {
            width,
            slots: vec![NONE; rows],
            rows: Vec::new(),
            p: Vec::new(),
            g: Vec::new(),
            m: Vec::new(),
            v: Vec::new(),
            decayed: 1.0,
        }
    }

    /// Forgets the gradients of the step before.
    pub(super) fn clear(&mut self) {
        self.g.fill(0.0);
    }

    /// Adds a gradient to `row` of `table`.
    pub(super) fn add(&mut self, table: &[f32], row: usize, gradient: &[f32]) {
        let width = self.width;
        if self.slots[row] == NONE {
            self.slots[row] = u32::try_from(self.rows.len()).expect("fewer than 2^32 rows");
            self.rows.push(row);
            let values = &table[row * width..][..width];
            self.p
                .extend(values.iter().map(|value| value * self.decayed));
            for moments in [&mut self.g, &mut self.m, &mut self.v] {
                moments.resize(moments.len() + width, 0.0);
            }
        }
        let slot = self.slots[row] as usize;
        let sums = &mut self.g[slot * width..][..width];
        for (sum, value) in sums.iter_mut().zip(gradient) {
            *sum += value;
        }
    }

    /// The gradients of this step.
    pub(super) fn gradients(&self) -> &[f32] {
        &self.g
    }

    /// The touched rows, to be updated.
    pub(super) fn arrays(&mut self, decay: f32) -> Arrays<'_> {
        self.decayed *= decay;
        Arrays {
            p: &mut self.p,
            g: &self.g,
            m: &mut self.m,
            v: &mut self.v,
            decay,
        }
    }

    /// What a checkpoint keeps: touched rows (as exact floats), their moments, the decay so far.
    pub(super) fn state(&self) -> [(&'static str, Vec<f32>); 4] {
        let rows = self.rows.iter().map(|row| *row as f32).collect();
        [
            ("rows", rows),
            ("m", self.m.clone()),
            ("v", self.v.clone()),
            ("decayed", vec![self.decayed]),
        ]
    }

    /// Goes back to what [`Self::state`] gave, and to the table's values `p`.
    pub(super) fn restore<'s, E>(
        &mut self,
        part: impl Fn(&str) -> Result<&'s [f32], E>,
    ) -> Result<(), E> {
        let (width, table) = (self.width, part("p")?);
        self.rows = part("rows")?.iter().map(|row| *row as usize).collect();
        self.slots.fill(NONE);
        self.p.clear();
        for (slot, &row) in self.rows.iter().enumerate() {
            self.slots[row] = slot as u32;
            self.p.extend_from_slice(&table[row * width..][..width]);
        }
        self.m = part("m")?.to_vec();
        self.v = part("v")?.to_vec();
        self.g = vec![0.0; self.m.len()];
        self.decayed = part("decayed")?.first().copied().unwrap_or(1.0);
        Ok(())
    }

    /// Writes the touched rows back.
    pub(super) fn store(&self, table: &mut [f32]) {
        let width = self.width;
        for (row, values) in self.rows.iter().zip(self.p.chunks_exact(width)) {
            table[row * width..][..width].copy_from_slice(values);
        }
    }

    /// The table as AdamW over all rows would have left it.
    pub(super) fn finish(&self, table: &mut [f32]) {
        for (row, slot) in self.slots.iter().enumerate() {
            if *slot == NONE {
                let values = &mut table[row * self.width..][..self.width];
                values.iter_mut().for_each(|value| *value *= self.decayed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// The textbook update, one number at a time, in f64.
    fn reference(
        p: &mut [f64],
        g: &[f64],
        m: &mut [f64],
        v: &mut [f64],
        t: i32,
        rate: f64,
        wd: f64,
    ) {
        let (b1, b2) = (0.9f64, 0.999f64);
        for i in 0..p.len() {
            p[i] -= rate * wd * p[i];
            m[i] = b1 * m[i] + (1.0 - b1) * g[i];
            v[i] = b2 * v[i] + (1.0 - b2) * g[i] * g[i];
            let (mh, vh) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
            p[i] -= rate * mh / (vh.sqrt() + 1e-8);
        }
    }

    #[test]
    fn touched_rows_equal_adamw_over_the_whole_table() {
        let (rows, width, rate, wd) = (6, 5, 0.01, 0.1);
        let mut stream = Stream::new(4, 0);
        let mut table: Vec<f32> = (0..rows * width).map(|_| stream.normal()).collect();
        let mut p: Vec<f64> = table.iter().map(|x| f64::from(*x)).collect();
        let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
        let mut moments = RowMoments::new(rows, width);
        for t in 1..=20 {
            let touched: Vec<usize> = vec![t % 3, (t * t) % 5, t % 3];
            let mut dense = vec![0.0f64; p.len()];
            moments.clear();
            for row in touched {
                let gradient: Vec<f32> = (0..width).map(|_| stream.normal()).collect();
                for (i, g) in gradient.iter().enumerate() {
                    dense[row * width + i] += f64::from(*g);
                }
                moments.add(&table, row, &gradient);
            }
            let step = Step::new(t, rate, 1.0);
            update_all(vec![moments.arrays(1.0 - rate * wd)], step);
            moments.store(&mut table);
            let (rate, wd) = (f64::from(rate), f64::from(wd));
            reference(&mut p, &dense, &mut m, &mut v, t as i32, rate, wd);
        }
        moments.finish(&mut table);
        for (ours, theirs) in table.iter().zip(&p) {
            assert!(
                (f64::from(*ours) - theirs).abs() < 1e-5,
                "{ours} vs {theirs}"
            );
        }
    }

    #[test]
    fn the_norm_counts_every_element() {
        let values: Vec<f32> = (0..100_003).map(|i| (i % 7) as f32).collect();
        let exact: f64 = values.iter().map(|v| f64::from(v * v)).sum();
        let ours = sum_of_squares(&[&values[..50_000], &values[50_000..]]);
        assert!((ours - exact).abs() < 1e-6 * exact, "{ours} vs {exact}");
    }
}
