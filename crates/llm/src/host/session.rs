//! One forward pass: buffers, the cache, and the layers in order.

use gemm::Parallelism;
use multiversion::multiversion;

use super::attention::Attention;
use super::cache::{Cache, Rows};
use super::matmul::{Matrix, matmul};
use super::panels::product;
use super::{Inner, Segment, kernels};
use crate::architecture::{Architecture, LayerKind};
use crate::decoder::{Layer, Linear, Norm};
use crate::weight::Weight;

/// Buffers of a session, grown once and used again.
#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    gate_up: Vec<f32>,
    gated: Vec<f32>,
    part: Vec<f32>,
    scores: Vec<f32>,
    logits: Vec<f32>,
}

/// A network with a cache and buffers.
pub(crate) struct Session<'a> {
    network: &'a Inner,
    cache: Cache,
    threads: Parallelism,
    scratch: Scratch,
}

impl<'a> Session<'a> {
    /// As [`super::HostNetwork::session`].
    pub(super) fn new(network: &'a Inner, slots: usize, capacity: usize, threads: usize) -> Self {
        Self {
            network,
            cache: Cache::new(&network.architecture, slots, capacity),
            threads: match threads {
                0 | 1 => Parallelism::None,
                many => Parallelism::Rayon(many),
            },
            scratch: Scratch::default(),
        }
    }

    /// Computes all segments; returns `[sum of keep, hidden]`, segment by segment.
    ///
    /// A segment's tokens stay in its slot; those after them, if any, are forgotten.
    pub(crate) fn forward(&mut self, segments: &[Segment<'_>]) -> &[f32] {
        let architecture = &self.network.architecture;
        self.embed(segments);
        for (index, layer) in self.network.decoder.layers.iter().enumerate() {
            self.layer(index, layer, segments);
        }
        let scratch = &mut self.scratch;
        fit(&mut scratch.normed, scratch.x.len());
        let (kind, eps) = (architecture.norm, architecture.norm_eps);
        let norm = &self.network.decoder.norm;
        kernels::norm(kind, eps, norm, &scratch.x, &mut scratch.normed);
        &scratch.normed
    }

    /// Logits of rows `first..first + rows` of the last [`Session::forward`], `[rows, vocab]`.
    pub(crate) fn logits(&mut self, first: usize, rows: usize) -> &mut [f32] {
        let Architecture {
            hidden,
            vocab,
            logit_cap,
            ..
        } = self.network.architecture;
        let scratch = &mut self.scratch;
        fit(&mut scratch.logits, rows * vocab);
        let x = &scratch.normed[first * hidden..(first + rows) * hidden];
        let head = &self.network.head;
        linear(
            head,
            x,
            (rows, hidden, vocab),
            &mut scratch.logits,
            false,
            self.threads,
        );
        if let Some(limit) = logit_cap {
            kernels::cap_all(&mut scratch.logits, limit);
        }
        &mut scratch.logits
    }

    /// Makes the first `length` tokens of a slot those of another.
    pub(crate) fn copy_prefix(&mut self, from: usize, to: usize, length: usize) {
        self.cache.copy_prefix(from, to, length);
    }

    fn embed(&mut self, segments: &[Segment<'_>]) {
        let Architecture {
            hidden,
            vocab,
            embedding_scale,
            ..
        } = self.network.architecture;
        let (table, head) = (&self.network.decoder.embedding, &self.network.head.weight);
        let x = &mut self.scratch.x;
        x.clear();
        for token in segments.iter().flat_map(|segment| segment.tokens) {
            let token = *token as usize;
            match (table.is_empty(), table, head) {
                (false, Weight::Full(table), _) => {
                    x.extend_from_slice(&table[token * hidden..(token + 1) * hidden]);
                }
                (false, Weight::Panels(panels), _) | (true, _, Weight::Panels(panels)) => {
                    panels.row(token, x);
                }
                (true, _, Weight::Full(head)) => {
                    x.extend((0..hidden).map(|i| head[i * vocab + token]));
                }
            }
        }
        if embedding_scale != 1.0 {
            x.iter_mut().for_each(|x| *x *= embedding_scale);
        }
    }

    fn layer(&mut self, index: usize, layer: &Layer, segments: &[Segment<'_>]) {
        let a = &self.network.architecture;
        let (threads, hidden, eps) = (self.threads, a.hidden, a.norm_eps);
        let last = index + 1 == a.layers.len();
        let rows = self.scratch.x.len() / hidden;
        let qkv_row = a.query_width() + 2 * a.kv_width();
        let s = &mut self.scratch;
        fit(&mut s.normed, rows * hidden);
        fit(&mut s.qkv, rows * qkv_row);
        kernels::norm(a.norm, eps, &layer.input_norm, &s.x, &mut s.normed);
        linear(
            &layer.qkv,
            &s.normed,
            (rows, hidden, qkv_row),
            &mut s.qkv,
            false,
            threads,
        );
        self.rotate_and_store(index, layer, segments);
        let rows = self.attend(index, segments, last);
        let s = &mut self.scratch;
        if last {
            keep_rows(&mut s.x, hidden, segments);
            keep_rows(&mut s.normed, hidden, segments);
        }
        let attended = (rows, a.query_width(), hidden);
        let norms = (a.norm, eps);
        let attention_norm = layer.attention_norm.as_ref();
        add_linear(
            &layer.output,
            &s.mixed,
            attended,
            attention_norm,
            norms,
            (&mut s.x, &mut s.part),
            threads,
        );
        if let Some(norm) = &layer.middle_norm {
            kernels::norm(a.norm, eps, norm, &s.x, &mut s.normed);
        }
        let width = a.intermediate;
        let up = width * (1 + usize::from(a.gated));
        fit(&mut s.gate_up, rows * up);
        fit(&mut s.gated, rows * width);
        linear(
            &layer.gate_up,
            &s.normed,
            (rows, hidden, up),
            &mut s.gate_up,
            false,
            threads,
        );
        let gated = if a.gated {
            kernels::gate(a.activation, &s.gate_up, width, &mut s.gated);
            &s.gated
        } else {
            kernels::activate_all(a.activation, &mut s.gate_up);
            &s.gate_up
        };
        let down = (rows, width, hidden);
        let output_norm = layer.output_norm.as_ref();
        add_linear(
            &layer.down,
            gated,
            down,
            output_norm,
            norms,
            (&mut s.x, &mut s.part),
            threads,
        );
    }

    /// Norms, rotates and scales queries in place; puts keys and values into the cache.
    fn rotate_and_store(&mut self, index: usize, layer: &Layer, segments: &[Segment<'_>]) {
        let a = &self.network.architecture;
        let rotary = a.layers[index].rotary;
        let (cos, sin) = &self.network.rotary[rotary];
        let rotation = Rotation {
            architecture: a,
            cos,
            sin,
            half: a.rotary[rotary].frequencies.len(),
        };
        let row = a.query_width() + 2 * a.kv_width();
        let mut rest = &mut self.scratch.qkv[..];
        for segment in segments {
            let rows;
            (rows, rest) = rest.split_at_mut(segment.tokens.len() * row);
            rotate_rows(&rotation, layer, segment.position, rows);
            let rows = Rows {
                row,
                keys: &rows[a.query_width()..],
                values: &rows[a.query_width() + a.kv_width()..],
                count: segment.tokens.len(),
            };
            self.cache.put(index, segment.slot, segment.position, &rows);
        }
    }

    /// Attention of all tokens, or in the last layer of those asked for; returns how many.
    fn attend(&mut self, index: usize, segments: &[Segment<'_>], last: bool) -> usize {
        let a = &self.network.architecture;
        let LayerKind { window, .. } = a.layers[index];
        let query_row = a.query_width() + 2 * a.kv_width();
        let count = |s: &Segment<'_>| if last { s.keep } else { s.tokens.len() };
        let rows = segments.iter().map(count).sum::<usize>();
        let s = &mut self.scratch;
        fit(&mut s.mixed, rows * a.query_width());
        let (mut from, mut to) = (0, 0);
        for segment in segments {
            let (tokens, count) = (segment.tokens.len(), count(segment));
            let attention = Attention {
                architecture: a,
                window,
                queries: &s.qkv[(from + tokens - count) * query_row..],
                query_row,
                position: segment.position + tokens - count,
                slot: self.cache.slot(index, segment.slot),
            };
            if count > 0 {
                let out = &mut s.mixed[to * a.query_width()..(to + count) * a.query_width()];
                attention.run(count, &mut s.scores, out);
            }
            from += tokens;
            to += count;
        }
        rows
    }
}

/// Sets the length; old numbers may stay, as every user writes all of them.
fn fit(buffer: &mut Vec<f32>, length: usize) {
    buffer.resize(length, 0.0);
}

/// The angles of a layer, `[positions, half]`.
struct Rotation<'a> {
    architecture: &'a Architecture,
    cos: &'a [f32],
    sin: &'a [f32],
    half: usize,
}

/// Norms, rotates and scales the queries and keys of successive positions, in rows of queries,
/// keys and values.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn rotate_rows(rotation: &Rotation<'_>, layer: &Layer, first: usize, rows: &mut [f32]) {
    let (a, half) = (rotation.architecture, rotation.half);
    let (queries, kv) = (a.query_width(), a.kv_width());
    for (index, row) in rows.chunks_exact_mut(queries + 2 * kv).enumerate() {
        let angle = (first + index) * half;
        let (cos, sin) = (
            &rotation.cos[angle..angle + half],
            &rotation.sin[angle..angle + half],
        );
        for (slot, head) in row[..queries + kv].chunks_exact_mut(a.head).enumerate() {
            let (norm, scale) = if slot * a.head < queries {
                (&layer.query_norm, a.query_scale)
            } else {
                (&layer.key_norm, 1.0)
            };
            if let Some(norm) = norm {
                kernels::norm_row(a.norm, a.norm_eps, norm, head);
            }
            rotate(head, cos, sin);
            head.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// Rotates the first numbers of a head, pair (i, i + half) by its angle.
#[inline(always)]
fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let (first, rest) = head.split_at_mut(half);
    for (((a, b), cos), sin) in first.iter_mut().zip(rest).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Keeps the last `keep` rows of every segment, moved together.
fn keep_rows(x: &mut Vec<f32>, width: usize, segments: &[Segment<'_>]) {
    let (mut from, mut to) = (0, 0);
    for segment in segments {
        from += segment.tokens.len();
        let start = (from - segment.keep) * width;
        x.copy_within(start..from * width, to * width);
        to += segment.keep;
    }
    x.truncate(to * width);
}

/// `out = x * matrix + bias`, or `out += ...`; `size` is rows, in, out.
fn linear(
    linear: &Linear,
    x: &[f32],
    size: (usize, usize, usize),
    out: &mut [f32],
    add: bool,
    threads: Parallelism,
) {
    let (rows, input, output) = size;
    match &linear.weight {
        Weight::Full(numbers) => {
            let (x, matrix) = (Matrix::rows(x, input), Matrix::rows(numbers, output));
            matmul(x, matrix, (out, output), size, add, threads);
        }
        Weight::Panels(panels) => {
            let (x, out) = (&x[..rows * input], &mut out[..rows * output]);
            product(panels, x, rows, out, add, threads);
        }
    }
    if let Some(bias) = &linear.bias {
        kernels::add_bias(out, bias);
    }
}

/// Adds a linear layer's result to the residual stream, through a norm where there is one.
fn add_linear(
    layer: &Linear,
    x: &[f32],
    size: (usize, usize, usize),
    norm: Option<&Norm>,
    (kind, eps): (crate::architecture::NormKind, f32),
    (residual, part): (&mut [f32], &mut Vec<f32>),
    threads: Parallelism,
) {
    let Some(norm) = norm else {
        return linear(layer, x, size, residual, true, threads);
    };
    fit(part, size.0 * size.2);
    linear(layer, x, size, part, false, threads);
    kernels::norm_in_place(kind, eps, norm, part);
    kernels::add(residual, part);
}
