//! A decoder that can run: on the CPU by its own loops, elsewhere by tensors.
//!
//! Both take segments (tokens of texts, each in its slot) and give logits; nothing above this file
//! knows which one it talks to.

use candle_core::{Device, Result};

use crate::architecture::Architecture;
use crate::decoder::Decoder;
use crate::device_network::{DeviceNetwork, DeviceSession};
use crate::error;
use crate::host::{self, HostNetwork, Segment};

/// A model with fewer numbers than this is best run by one session per thread: its weights stay
/// in the cache that the cores share. A larger one is read once for all texts, by all threads, in
/// the bits that its file has.
pub(crate) const PARAMETERS_PER_SESSION_MAX: usize = 32 << 20;

/// A decoder on some device.
#[derive(Debug, Clone)]
pub(crate) enum Network {
    Host(HostNetwork),
    Device(DeviceNetwork),
}

impl Network {
    pub(crate) fn new(
        architecture: Architecture,
        decoder: Decoder,
        device: &Device,
    ) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Self::Host(HostNetwork::new(architecture, decoder)),
            _ => Self::Device(DeviceNetwork::new(architecture, decoder, device)?),
        })
    }

    pub(crate) fn architecture(&self) -> &Architecture {
        match self {
            Self::Host(network) => network.architecture(),
            Self::Device(network) => network.architecture(),
        }
    }

    /// The numbers, on the CPU.
    pub(crate) fn decoder(&self) -> Decoder {
        match self {
            Self::Host(network) => network.decoder(),
            Self::Device(network) => network.decoder(),
        }
    }

    /// How many sessions should share the work, and how many threads each should use.
    pub(crate) fn sessions(&self, work: usize) -> (usize, usize) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Host(network) if network.parameters() <= PARAMETERS_PER_SESSION_MAX => {
                (threads.min(work).max(1), 1)
            }
            Self::Host(_) => (1, threads),
            Self::Device(_) => (1, 1),
        }
    }

    /// Room for `slots` texts of up to `capacity` tokens.
    pub(crate) fn session(
        &self,
        slots: usize,
        capacity: usize,
        threads: usize,
    ) -> Result<Session<'_>> {
        Ok(match self {
            Self::Host(network) => {
                Session::Host(Box::new(network.session(slots, capacity, threads)))
            }
            Self::Device(network) => Session::Device(Box::new(network.session(slots, capacity)?)),
        })
    }
}

/// A network with room for some texts.
pub(crate) enum Session<'a> {
    Host(Box<host::Session<'a>>),
    Device(Box<DeviceSession<'a>>),
}

impl Session<'_> {
    /// Computes the segments; [`Session::logits`] then gives the rows that they keep.
    pub(crate) fn forward(&mut self, segments: &[Segment<'_>]) -> Result<()> {
        match self {
            Self::Host(session) => {
                session.forward(segments);
                Ok(())
            }
            Self::Device(session) => session.forward(segments),
        }
    }

    /// Logits of rows `first..first + rows`, counted over the `keep` of all segments.
    ///
    /// # Errors
    /// [`Error::NotFinite`](error::Error::NotFinite): draws and comparisons would take such numbers
    /// for an answer. And whatever a device says.
    pub(crate) fn logits(&mut self, first: usize, rows: usize) -> error::Result<&mut [f32]> {
        let logits = match self {
            Self::Host(session) => session.logits(first, rows),
            Self::Device(session) => session.logits(first, rows)?,
        };
        // Without an early end, so that the compiler makes vectors of it.
        match logits
            .iter()
            .fold(true, |all, logit| all & logit.is_finite())
        {
            true => Ok(logits),
            false => Err(error::Error::NotFinite { what: "logits" }),
        }
    }

    /// Makes the first `length` tokens of a slot those of another.
    pub(crate) fn copy_prefix(&mut self, from: usize, to: usize, length: usize) -> Result<()> {
        match self {
            Self::Host(session) => {
                session.copy_prefix(from, to, length);
                Ok(())
            }
            Self::Device(session) => session.copy_prefix(from, to, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, LayerKind, NormKind, Rotary};
    use crate::decoder::{Layer, Linear, Norm};
    use crate::pretrain::init::Normal;
    use crate::weight::{Bits, Panels, Weight};

    fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
        let drawn = Normal::new(seed).tensor(&[count], scale).unwrap();
        drawn.to_vec1().unwrap()
    }

    /// A decoder with every part that some family has, or with none of them.
    fn sample(everything: bool, layer_norm: bool) -> (Architecture, Decoder) {
        let (hidden, intermediate, vocab, head) = (64, 96, 50, 8);
        let (heads, kv_heads) = (4, 2);
        let architecture = Architecture {
            family: "sample".to_owned(),
            vocab,
            hidden,
            intermediate,
            heads,
            kv_heads,
            head,
            context: 64,
            norm: if layer_norm {
                NormKind::Layer
            } else {
                NormKind::Rms
            },
            norm_eps: 1e-5,
            activation: if everything {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            gated: !layer_norm,
            parallel: layer_norm,
            query_scale: 0.3,
            embedding_scale: if everything { 2.0 } else { 1.0 },
            score_cap: everything.then_some(5.0),
            logit_cap: everything.then_some(3.0),
            rotary: vec![
                Rotary::plain(if layer_norm { 4 } else { 8 }, 1e4),
                Rotary::plain(8, 50.0),
            ],
            layers: vec![
                LayerKind::default(),
                LayerKind {
                    rotary: usize::from(everything),
                    window: everything.then_some(3),
                },
            ],
            begin: None,
            end: vec![0],
            pad: None,
        };
        let mut seed = 0;
        let mut draw = |count: usize| {
            seed += 1;
            numbers(seed, count, 0.2)
        };
        let mut layers = Vec::new();
        for _ in 0..2 {
            let up = if layer_norm {
                intermediate
            } else {
                2 * intermediate
            };
            let mut linear = |output: usize, input: usize| Linear {
                weight: Weight::Full(draw(output * input)),
                bias: (layer_norm || everything).then(|| draw(output)),
            };
            let (qkv, output) = (
                linear((heads + 2 * kv_heads) * head, hidden),
                linear(hidden, heads * head),
            );
            let (gate_up, down) = (linear(up, hidden), linear(hidden, intermediate));
            let mut norm = |width: usize| Norm {
                gain: draw(width).iter().map(|x| 1.0 + x).collect(),
                bias: layer_norm.then(|| draw(width)),
            };
            layers.push(Layer {
                input_norm: norm(hidden),
                qkv,
                query_norm: everything.then(|| norm(head)),
                key_norm: everything.then(|| norm(head)),
                output,
                attention_norm: everything.then(|| norm(hidden)),
                middle_norm: (!layer_norm).then(|| norm(hidden)),
                gate_up,
                down,
                output_norm: everything.then(|| norm(hidden)),
            });
        }
        let norm = Norm {
            gain: vec![1.0; hidden],
            bias: layer_norm.then(|| vec![0.1; hidden]),
        };
        let head = layer_norm.then(|| Linear {
            weight: Weight::Full(draw(vocab * hidden)),
            bias: Some(draw(vocab)),
        });
        let decoder = Decoder {
            embedding: Weight::Full(draw(vocab * hidden)),
            layers,
            norm,
            head,
        };
        (architecture, decoder)
    }

    fn networks(everything: bool, layer_norm: bool) -> [Network; 2] {
        let (architecture, decoder) = sample(everything, layer_norm);
        [
            Network::Host(HostNetwork::new(architecture.clone(), decoder.clone())),
            Network::Device(DeviceNetwork::new(architecture, decoder, &Device::Cpu).unwrap()),
        ]
    }

    fn segment(slot: usize, position: usize, tokens: &[u32], keep: usize) -> Segment<'_> {
        Segment {
            slot,
            position,
            tokens,
            keep,
        }
    }

    fn assert_near(a: &[f32], b: &[f32], what: &str) {
        assert_eq!(a.len(), b.len());
        let largest = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(largest < 2e-4, "{what}: off by {largest}");
    }

    #[test]
    fn both_networks_agree_on_every_part_that_a_family_may_have() {
        let text: Vec<u32> = (0..70).map(|i| i * i % 47).take(40).collect();
        for (everything, layer_norm) in [(false, false), (true, false), (false, true)] {
            let logits = networks(everything, layer_norm).map(|network| {
                let mut session = network.session(1, 64, 1).unwrap();
                session.forward(&[segment(0, 0, &text, 40)]).unwrap();
                session.logits(0, 40).unwrap().to_vec()
            });
            assert_near(&logits[0], &logits[1], "host and device");
            let spread = logits[0].iter().fold(0f32, |top, x| top.max(x.abs()));
            assert!(spread > 0.5, "the sample must not be trivial: {spread}");
        }
    }

    #[test]
    fn a_text_in_pieces_among_others_has_the_logits_of_the_whole() {
        let text: Vec<u32> = (0..30).map(|i| i * 7 % 47).collect();
        let other: Vec<u32> = (0..30).map(|i| i * 11 % 43).collect();
        for (everything, layer_norm) in [(false, false), (true, false), (false, true)] {
            for network in networks(everything, layer_norm) {
                let mut session = network.session(1, 32, 1).unwrap();
                session.forward(&[segment(0, 0, &text, 2)]).unwrap();
                let whole = session.logits(0, 2).unwrap().to_vec();

                let mut session = network.session(3, 32, 2).unwrap();
                session
                    .forward(&[segment(1, 0, &other[..9], 1), segment(2, 0, &text[..11], 0)])
                    .unwrap();
                session.copy_prefix(2, 0, 10).unwrap();
                session
                    .forward(&[
                        segment(0, 10, &text[10..29], 1),
                        segment(1, 9, &other[9..10], 1),
                    ])
                    .unwrap();
                let mut pieces = session.logits(0, 1).unwrap().to_vec();
                session
                    .forward(&[
                        segment(1, 10, &other[10..11], 1),
                        segment(0, 29, &text[29..], 1),
                    ])
                    .unwrap();
                pieces.extend_from_slice(session.logits(1, 1).unwrap());
                assert_near(&whole, &pieces, "in pieces");
            }
        }
    }

    /// The same decoder with its matrices as a file of these bits has them.
    fn kept(mut decoder: Decoder, bits: Bits, hidden: usize, inputs: [usize; 4]) -> Decoder {
        let keep = |weight: &mut Weight, inputs| {
            *weight = Weight::Panels(Panels::pack(&weight.numbers(), inputs, bits).unwrap());
        };
        keep(&mut decoder.embedding, hidden);
        if let Some(head) = &mut decoder.head {
            keep(&mut head.weight, hidden);
        }
        for layer in &mut decoder.layers {
            let matrices = [
                &mut layer.qkv,
                &mut layer.output,
                &mut layer.gate_up,
                &mut layer.down,
            ];
            for (linear, inputs) in matrices.into_iter().zip(inputs) {
                keep(&mut linear.weight, inputs);
            }
        }
        decoder
    }

    #[test]
    fn matrices_in_few_bits_are_computed_with_as_the_numbers_they_stand_for() {
        let text: Vec<u32> = (0..9).map(|i| i * 5 % 47).collect();
        for (everything, layer_norm) in [(true, false), (false, true)] {
            for bits in [Bits::Bf16, Bits::F16, Bits::Few] {
                let (architecture, decoder) = sample(everything, layer_norm);
                let inputs = [
                    64,
                    architecture.query_width(),
                    64,
                    architecture.intermediate,
                ];
                let decoder = kept(decoder, bits, 64, inputs);
                let host = HostNetwork::new(architecture.clone(), decoder.clone());
                assert_eq!(host.decoder(), decoder);
                // There they are f32.
                let device = DeviceNetwork::new(architecture, decoder, &Device::Cpu).unwrap();
                let logits = [Network::Host(host), Network::Device(device)].map(|network| {
                    let mut session = network.session(2, 16, 2).unwrap();
                    session.forward(&[segment(0, 0, &text, 9)]).unwrap();
                    let mut all = session.logits(0, 9).unwrap().to_vec();
                    session.forward(&[segment(1, 0, &text[..2], 2)]).unwrap();
                    all.extend_from_slice(session.logits(0, 2).unwrap());
                    all
                });
                assert_near(&logits[0], &logits[1], "in few bits");
            }
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let (architecture, mut decoder) = sample(false, false);
        decoder.norm.gain[3] = f32::MAX;
        let mut embedding = decoder.embedding.numbers().into_owned();
        embedding.iter_mut().for_each(|x| *x *= 1e3);
        decoder.embedding = Weight::Full(embedding);
        let network = Network::Host(HostNetwork::new(architecture, decoder));
        let mut session = network.session(1, 64, 1).unwrap();
        session.forward(&[segment(0, 0, &[1, 2, 3], 1)]).unwrap();
        let error = session.logits(0, 1).unwrap_err().to_string();
        assert!(error.contains("logits are not finite"), "{error}");
    }

    #[test]
    fn a_network_gives_back_the_numbers_it_took() {
        for layer_norm in [false, true] {
            let (_, decoder) = sample(false, layer_norm);
            for network in networks(false, layer_norm) {
                assert_eq!(network.decoder(), decoder);
            }
        }
    }
}
