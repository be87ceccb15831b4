//! Causal multi-head attention, forward and backward, one head and one block of queries at a time.
//!
//! A block of queries looks at the keys up to its own end only, so about a third of the products
//! of the full square are never computed, and every intermediate stays in the second-level cache.
//! The weights of the forward pass are computed again in the backward pass rather than kept.

use candle_core::{Result, Tensor};

use super::cells::{change, product, read, tensor};
use super::kernels::{self, Rotary};
use crate::config::LlamaConfig;

/// Queries per block.
const BLOCK: usize = 64;

/// Sizes of an attention layer.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    rows: usize,
    window: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
}

/// Rotated queries and keys, and values, head by head.
pub(super) struct Heads {
    sizes: Sizes,
    /// `[rows * heads, window, head]`.
    query: Tensor,
    /// `[rows * kv_heads, window, head]`.
    key: Tensor,
    /// `[rows * kv_heads, window, head]`.
    value: Tensor,
}

impl Heads {
    /// Takes `[rows * window, (heads + 2 * kv_heads) * head]` apart and rotates queries and keys.
    pub(super) fn split(
        config: &LlamaConfig,
        rotary: &Rotary,
        window: usize,
        qkv: &Tensor,
    ) -> Result<Self> {
        let sizes = Sizes {
            rows: qkv.dim(0)? / window,
            window,
            heads: config.num_attention_heads,
            kv_heads: config.kv_heads(),
            head: config.head_size(),
        };
        let (heads, kv_heads, head) = (sizes.heads, sizes.kv_heads, sizes.head);
        let mut query = vec![0f32; sizes.rows * heads * window * head];
        let mut key = vec![0f32; sizes.rows * kv_heads * window * head];
        let mut value = key.clone();
        let width = (heads + 2 * kv_heads) * head;
        read(qkv, |qkv| {
            for (token, from) in qkv.chunks_exact(width).enumerate() {
                let (row, position) = (token / window, token % window);
                for (slot, from) in from.chunks_exact(head).enumerate() {
                    if slot < heads {
                        let to = place(row * heads + slot, position, sizes);
                        rotary.turn(from, position, 1.0, &mut query[to]);
                    } else if slot < heads + kv_heads {
                        let to = place(row * kv_heads + slot - heads, position, sizes);
                        rotary.turn(from, position, 1.0, &mut key[to]);
                    } else {
                        let to = place(row * kv_heads + slot - heads - kv_heads, position, sizes);
                        value[to].copy_from_slice(from);
                    }
                }
            }
        })?;
        Ok(Self {
            sizes,
            query: tensor(query, (sizes.rows * heads, window, head))?,
            key: tensor(key, (sizes.rows * kv_heads, window, head))?,
            value: tensor(value, (sizes.rows * kv_heads, window, head))?,
        })
    }
}

fn place(head_index: usize, position: usize, sizes: Sizes) -> std::ops::Range<usize> {
    let start = (head_index * sizes.window + position) * sizes.head;
    start..start + sizes.head
}

impl Sizes {
    fn scale(self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// (query head, key/value head, row, head within the row) for every head of the batch.
    fn all_heads(self) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let group = self.heads / self.kv_heads;
        (0..self.rows * self.heads).map(move |index| {
            let (row, head) = (index / self.heads, index % self.heads);
            (index, row * self.kv_heads + head / group, row, head)
        })
    }

    /// (first query, queries, keys in sight) of every block.
    fn blocks(self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.window).step_by(BLOCK).map(move |start| {
            let end = (start + BLOCK).min(self.window);
            (start, end - start, end)
        })
    }
}

fn attention_weights(query: &Tensor, key: &Tensor, start: usize, scale: f32) -> Result<Tensor> {
    let keys = key.dim(0)?;
    let scores = product(query, &key.t()?)?;
    change(&scores, |scores| {
        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
            kernels::masked_softmax(row, start + i + 1, scale);
        }
    })?;
    Ok(scores)
}

/// Attention output, `[rows * window, heads * head]`.
pub(super) fn forward(heads: &Heads) -> Result<Tensor> {
    let sizes = heads.sizes;
    let (width, head) = (sizes.heads * sizes.head, sizes.head);
    let mut out = vec![0f32; sizes.rows * sizes.window * width];
    for (index, kv_index, row, slot) in sizes.all_heads() {
        let (query, key, value) = (
            heads.query.get(index)?,
            heads.key.get(kv_index)?,
            heads.value.get(kv_index)?,
        );
        for (start, queries, keys) in sizes.blocks() {
            let weights = attention_weights(
                &query.narrow(0, start, queries)?,
                &key.narrow(0, 0, keys)?,
                start,
                sizes.scale(),
            )?;
            let mixed = product(&weights, &value.narrow(0, 0, keys)?)?;
            read(&mixed, |mixed| {
                for (i, mixed) in mixed.chunks_exact(head).enumerate() {
                    let to = (row * sizes.window + start + i) * width + slot * head;
                    out[to..to + head].copy_from_slice(mixed);
                }
            })?;
        }
    }
    tensor(out, (sizes.rows * sizes.window, width))
}

/// Gradient of the un-rotated q, k, v in the layout that [`Heads::split`] takes.
pub(super) fn backward(
    heads: &Heads,
    rotary: &Rotary,
    out: &Tensor,
    dout: &Tensor,
) -> Result<Tensor> {
    let sizes = heads.sizes;
    let (head, window) = (sizes.head, sizes.window);
    let mut dquery = vec![0f32; heads.query.elem_count()];
    let mut dkey = vec![0f32; heads.key.elem_count()];
    let mut dvalue = vec![0f32; heads.value.elem_count()];
    for (index, kv_index, row, slot) in sizes.all_heads() {
        let (query, key, value) = (
            heads.query.get(index)?,
            heads.key.get(kv_index)?,
            heads.value.get(kv_index)?,
        );
        let kv_start = kv_index * window * head;
        for (start, queries, keys) in sizes.blocks() {
            let (key, value) = (key.narrow(0, 0, keys)?, value.narrow(0, 0, keys)?);
            let query = query.narrow(0, start, queries)?;
            let weights = attention_weights(&query, &key, start, sizes.scale())?;
            let (dmixed, inner) = block_gradient(sizes, out, dout, row, slot, start, queries)?;
            let dscores = product(&dmixed, &value.t()?)?;
            read(&weights, |weights| {
                change(&dscores, |dscores| {
                    let rows = dscores
                        .chunks_exact_mut(keys)
                        .zip(weights.chunks_exact(keys));
                    for ((d, w), inner) in rows.zip(&inner) {
                        for (d, w) in d.iter_mut().zip(w) {
                            *d = w * (*d - inner) * sizes.scale();
                        }
                    }
                })
            })??;
            let span = kv_start..kv_start + keys * head;
            accumulate(&mut dvalue[span.clone()], &product(&weights.t()?, &dmixed)?)?;
            accumulate(&mut dkey[span], &product(&dscores.t()?, &query)?)?;
            let at = (index * window + start) * head;
            accumulate(
                &mut dquery[at..at + queries * head],
                &product(&dscores, &key)?,
            )?;
        }
    }
    join(sizes, rotary, &dquery, &dkey, &dvalue)
}

/// The output gradient of one block of one head, and its inner product with the output, by query.
fn block_gradient(
    sizes: Sizes,
    out: &Tensor,
    dout: &Tensor,
    row: usize,
    slot: usize,
    start: usize,
    queries: usize,
) -> Result<(Tensor, Vec<f32>)> {
    let (head, width) = (sizes.head, sizes.heads * sizes.head);
    let mut dmixed = Vec::with_capacity(queries * head);
    let inner = read(out, |out| {
        read(dout, |dout| {
            let spans = (start..start + queries).map(|position| {
                let at = (row * sizes.window + position) * width + slot * head;
                at..at + head
            });
            spans
                .map(|span| {
                    dmixed.extend_from_slice(&dout[span.clone()]);
                    kernels::dot(&out[span.clone()], &dout[span])
                })
                .collect()
        })
    })??;
    Ok((tensor(dmixed, (queries, head))?, inner))
}

fn accumulate(sum: &mut [f32], part: &Tensor) -> Result<()> {
    read(part, |part| {
        for (sum, part) in sum.iter_mut().zip(part) {
            *sum += part;
        }
    })
}

fn join(
    sizes: Sizes,
    rotary: &Rotary,
    dquery: &[f32],
    dkey: &[f32],
    dvalue: &[f32],
) -> Result<Tensor> {
    let Sizes {
        rows,
        window,
        heads,
        kv_heads,
        head,
    } = sizes;
    let width = (heads + 2 * kv_heads) * head;
    let mut out = vec![0f32; rows * window * width];
    for (token, to) in out.chunks_exact_mut(width).enumerate() {
        let (row, position) = (token / window, token % window);
        for (slot, to) in to.chunks_exact_mut(head).enumerate() {
            if slot < heads {
                let from = place(row * heads + slot, position, sizes);
                rotary.turn(&dquery[from], position, -1.0, to);
            } else if slot < heads + kv_heads {
                let from = place(row * kv_heads + slot - heads, position, sizes);
                rotary.turn(&dkey[from], position, -1.0, to);
            } else {
                let from = place(row * kv_heads + slot - heads - kv_heads, position, sizes);
                to.copy_from_slice(&dvalue[from]);
            }
        }
    }
    tensor(out, (rows * window, width))
}
