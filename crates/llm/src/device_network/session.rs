//! One forward pass on tensors: the caches, and the layers in order.
//!
//! Single tokens of many texts are computed together; longer pieces text by text, as a GPU is
//! busy with each of them. Deliberately absent: paged caches.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::rope_thd;

use super::{DeviceNetwork, Inner, Norm};
use crate::architecture::Activation;
use crate::host::Segment;

impl DeviceNetwork {
    pub(crate) fn session(&self, slots: usize, capacity: usize) -> Result<DeviceSession<'_>> {
        let network = &*self.inner;
        let a = &network.architecture;
        let shape = (slots, a.kv_heads, capacity, a.head);
        let empty = || Tensor::zeros(shape, DType::F32, &network.device);
        let caches = a.layers.iter().map(|_| Ok((empty()?, empty()?)));
        Ok(DeviceSession {
            caches: caches.collect::<Result<_>>()?,
            network,
            hidden: None,
            logits: Vec::new(),
        })
    }
}

/// A network with keys and values of some texts, `[slots, kv_heads, capacity, head]` per layer.
pub(crate) struct DeviceSession<'a> {
    network: &'a Inner,
    caches: Vec<(Tensor, Tensor)>,
    /// What the last forward pass kept, `[rows, hidden]`.
    hidden: Option<Tensor>,
    logits: Vec<f32>,
}

impl DeviceSession<'_> {
    pub(crate) fn forward(&mut self, segments: &[Segment<'_>]) -> Result<()> {
        let mut kept: Vec<Option<Tensor>> = vec![None; segments.len()];
        let single = |s: &Segment<'_>| s.tokens.len() == 1;
        let steps: Vec<usize> = (0..segments.len())
            .filter(|i| single(&segments[*i]))
            .collect();
        if !steps.is_empty() {
            let here: Vec<Segment<'_>> = steps.iter().map(|i| segments[*i]).collect();
            let hidden = self.step(&here)?;
            for (row, index) in steps.into_iter().enumerate() {
                kept[index] = Some(hidden.narrow(0, row, segments[index].keep)?);
            }
        }
        for (index, segment) in segments.iter().enumerate() {
            if !single(segment) && !segment.tokens.is_empty() {
                let hidden = self.piece(segment)?;
                let first = segment.tokens.len() - segment.keep;
                kept[index] = Some(hidden.narrow(0, first, segment.keep)?);
            }
        }
        let kept: Vec<Tensor> = kept
            .into_iter()
            .flatten()
            .filter(|t| t.dims()[0] > 0)
            .collect();
        self.hidden = match kept.is_empty() {
            true => None,
            false => Some(
                self.network
                    .norm
                    .apply(&self.network.architecture, &Tensor::cat(&kept, 0)?)?,
            ),
        };
        Ok(())
    }

    pub(crate) fn logits(&mut self, first: usize, rows: usize) -> Result<&mut [f32]> {
        let Some(hidden) = &self.hidden else {
            candle_core::bail!("no hidden states were kept");
        };
        let mut logits = self.network.head.apply(&hidden.narrow(0, first, rows)?)?;
        if let Some(cap) = self.network.architecture.logit_cap {
            logits = capped(&logits, cap)?;
        }
        self.logits = logits.flatten_all()?.to_vec1()?;
        Ok(&mut self.logits)
    }

    pub(crate) fn copy_prefix(&mut self, from: usize, to: usize, length: usize) -> Result<()> {
        if from == to || length == 0 {
            return Ok(());
        }
        for tensor in self.caches.iter().flat_map(|(keys, values)| [keys, values]) {
            let moved = tensor
                .narrow(0, from, 1)?
                .narrow(2, 0, length)?
                .copy()?
                .contiguous()?;
            tensor.narrow(0, to, 1)?.slice_set(&moved, 2, 0)?;
        }
        Ok(())
    }

    /// Several tokens of one text, `[tokens, hidden]`.
    fn piece(&self, segment: &Segment<'_>) -> Result<Tensor> {
        let a = &self.network.architecture;
        let (before, length) = (segment.position, segment.tokens.len());
        let seen = before + length;
        self.run(
            segment.tokens,
            &(before..seen).collect::<Vec<_>>(),
            |index, query, key, value| {
                let (keys, values) = &self.caches[index];
                let place = |cache: &Tensor, new: &Tensor| {
                    let slot = cache.narrow(0, segment.slot, 1)?;
                    slot.slice_set(&new.transpose(0, 1)?.unsqueeze(0)?.contiguous()?, 2, before)?;
                    slot.narrow(2, 0, seen)?.squeeze(0)?.contiguous()
                };
                let (keys, values) = (place(keys, key)?, place(values, value)?);
                // Queries of one key head lie together: `[kv_heads, group * length, head]`.
                let query =
                    query
                        .transpose(0, 1)?
                        .contiguous()?
                        .reshape((a.kv_heads, (), a.head))?;
                let mask = mask(
                    a.layers[index].window,
                    (before..seen).map(|p| (p, seen)),
                    self.device(),
                )?;
                let group = a.heads / a.kv_heads;
                let scores = self.weigh(
                    &query
                        .matmul(&keys.t()?)?
                        .reshape((a.kv_heads, group, length, seen))?,
                    &mask,
                )?;
                let mixed = scores
                    .reshape((a.kv_heads, group * length, seen))?
                    .matmul(&values)?;
                mixed
                    .reshape((a.heads, length, a.head))?
                    .transpose(0, 1)?
                    .contiguous()?
                    .reshape((length, ()))
            },
        )
    }

    /// One token of each text, `[texts, hidden]`.
    fn step(&self, segments: &[Segment<'_>]) -> Result<Tensor> {
        let a = &self.network.architecture;
        let count = segments.len();
        let tokens: Vec<u32> = segments.iter().map(|s| s.tokens[0]).collect();
        let positions: Vec<usize> = segments.iter().map(|s| s.position).collect();
        let seen = positions.iter().max().map_or(0, |p| p + 1);
        let slots: Vec<u32> = segments.iter().map(|s| s.slot as u32).collect();
        let slots = Tensor::new(slots, self.device())?;
        self.run(&tokens, &positions, |index, query, key, value| {
            let (keys, values) = &self.caches[index];
            let place = |cache: &Tensor, new: &Tensor| {
                for (row, segment) in segments.iter().enumerate() {
                    let new = new.narrow(0, row, 1)?.reshape((1, a.kv_heads, 1, a.head))?;
                    cache.narrow(0, segment.slot, 1)?.slice_set(
                        &new.contiguous()?,
                        2,
                        segment.position,
                    )?;
                }
                cache
                    .narrow(2, 0, seen)?
                    .contiguous()?
                    .index_select(&slots, 0)
            };
            let (keys, values) = (place(keys, key)?, place(values, value)?);
            let query = query.reshape((count, a.kv_heads, a.heads / a.kv_heads, a.head))?;
            let mask = mask(
                a.layers[index].window,
                positions.iter().map(|p| (*p, seen)),
                self.device(),
            )?;
            let scores = query.contiguous()?.matmul(&keys.t()?)?;
            let mask = mask.reshape((count, 1, 1, seen))?;
            self.weigh(&scores, &mask)?
                .matmul(&values)?
                .reshape((count, ()))
        })
    }

    fn device(&self) -> &Device {
        &self.network.device
    }

    fn weigh(&self, scores: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let scores = match self.network.architecture.score_cap {
            Some(cap) => capped(scores, cap)?,
            None => scores.clone(),
        };
        softmax_last_dim(&scores.broadcast_add(mask)?.contiguous()?)
    }

    /// All layers; `attend` gets `[tokens, heads, head]` queries, keys and values.
    fn run(
        &self,
        tokens: &[u32],
        positions: &[usize],
        attend: impl Fn(usize, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let a = &self.network.architecture;
        let ids = Tensor::new(tokens, self.device())?;
        let places: Vec<u32> = positions.iter().map(|p| *p as u32).collect();
        let places = Tensor::new(places, self.device())?;
        let mut x = (self.network.embedding.index_select(&ids, 0)? * f64::from(a.embedding_scale))?;
        for (index, layer) in self.network.layers.iter().enumerate() {
            let (cos, sin) = &self.network.rotary[a.layers[index].rotary];
            let (cos, sin) = (cos.index_select(&places, 0)?, sin.index_select(&places, 0)?);
            let normed = layer.input_norm.apply(a, &x)?;
            let qkv = layer.qkv.apply(&normed)?;
            let part = |start: usize, heads: usize| {
                qkv.narrow(1, start, heads * a.head)?
                    .contiguous()?
                    .reshape(((), heads, a.head))
            };
            let prepare = |heads: Tensor, norm: &Option<Norm>| {
                let heads = match norm {
                    Some(norm) => norm.apply(a, &heads)?,
                    None => heads,
                };
                rotated(&heads, &cos, &sin)
            };
            let query = prepare(part(0, a.heads)?, &layer.query_norm)?;
            let key = prepare(part(a.query_width(), a.kv_heads)?, &layer.key_norm)?;
            let value = part(a.query_width() + a.kv_width(), a.kv_heads)?;
            let query = (query * f64::from(a.query_scale))?;
            let mixed = attend(index, &query, &key, &value)?;
            let after = |y: Tensor, norm: &Option<Norm>| match norm {
                Some(norm) => norm.apply(a, &y),
                None => Ok(y),
            };
            x = (x + after(layer.output.apply(&mixed)?, &layer.attention_norm)?)?;
            let normed = match &layer.middle_norm {
                Some(norm) => norm.apply(a, &x)?,
                None => normed,
            };
            let up = layer.gate_up.apply(&normed)?;
            let act = |x: &Tensor| match a.activation {
                Activation::Silu => x.silu(),
                Activation::GeluTanh => x.gelu(),
            };
            let gated = if a.gated {
                let gate = act(&up.narrow(1, 0, a.intermediate)?.contiguous()?)?;
                (gate * up.narrow(1, a.intermediate, a.intermediate)?)?
            } else {
                act(&up)?
            };
            x = (x + after(layer.down.apply(&gated)?, &layer.output_norm)?)?;
        }
        Ok(x)
    }
}

fn capped(x: &Tensor, cap: f32) -> Result<Tensor> {
    (x / f64::from(cap))?.tanh()? * f64::from(cap)
}

/// Rotates the first numbers of every head of `[tokens, heads, head]`.
fn rotated(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (head, dims) = (x.dim(D::Minus1)?, 2 * cos.dim(1)?);
    let first = x.narrow(D::Minus1, 0, dims)?.unsqueeze(0)?.contiguous()?;
    let turned = rope_thd(&first, cos, sin)?.squeeze(0)?;
    if head == dims {
        return Ok(turned);
    }
    Tensor::cat(
        &[&turned, &x.narrow(D::Minus1, dims, head - dims)?],
        D::Minus1,
    )
}

/// One row for every (position, keys): zero where the token at the position may look.
fn mask(
    window: Option<usize>,
    rows: impl ExactSizeIterator<Item = (usize, usize)>,
    device: &Device,
) -> Result<Tensor> {
    let (mut mask, count) = (Vec::new(), rows.len());
    for (position, keys) in rows {
        let start = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let hidden = |key: usize| key < start || key > position;
        mask.extend((0..keys).map(|key| if hidden(key) { f32::NEG_INFINITY } else { 0.0 }));
    }
    let keys = mask.len() / count.max(1);
    Tensor::from_vec(mask, (count, keys), device)
}
