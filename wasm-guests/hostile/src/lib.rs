//! A guest that attacks, written with the SDK as an honest one would be.
//!
//! The configuration names the attack: `{"attack": "remember"}`. Every unit is
//! counted honestly first, `[bytes of the text, 1]`; a unit whose text begins with
//! `!` then attacks. Coordinates from 2 on are where stolen data would show. The
//! sandbox's tests (`crates/sandbox/tests/sandbox/rust_guest.rs`) demand that the
//! honest units' sum comes out, and nothing else.
//!
//! Built by `cargo xtask guests`, like the guests under `plugins/`.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Mutex;

use noisegate_guest_sdk::{Accum, ClientStep, File, Query, Round, Setup, Tensor, Turn, Unit};

/// Units seen by this instance, if an instance ever saw two.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static SEEN_HERE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Length of the contribution.
const DIM: u32 = 16;

struct Hostile {
    released: Vec<Vec<f32>>,
}

impl ClientStep for Hostile {
    fn start(config: &str, _inputs: Vec<File>) -> Result<(Self, Setup), String> {
        let attack = config.split('"').nth(3).ok_or("write {\"attack\": NAME}")?;
        let setup = Setup {
            dim: DIM,
            queries: 2,
            tensors: vec![],
            context: attack.into(),
        };
        Ok((
            Hostile {
                released: Vec::new(),
            },
            setup,
        ))
    }

    fn next(&mut self, round: Round) -> Turn {
        // What the private side wrote to these is in other instances' memory.
        let stolen = SEEN.lock().map_or(0, |seen| seen.len()) + SEEN_HERE.with_borrow(Vec::len);
        assert_eq!(stolen, 0, "the public side has seen units");
        if round.asked < round.queries {
            Turn::Ask(Query::default())
        } else {
            Turn::Done
        }
    }

    fn absorb(&mut self, released: Vec<f32>) {
        self.released.push(released);
    }

    fn outputs(&mut self) -> Result<Vec<File>, String> {
        let bytes = |values: &Vec<f32>| values.iter().flat_map(|it| it.to_le_bytes()).collect();
        let file = |values| File {
            name: "released".to_owned(),
            data: bytes(values),
        };
        Ok(self.released.iter().map(file).collect())
    }

    fn contribute(unit: &Unit, setup: &[u8], _: &[u8], _: &[&Tensor], into: &Accum) {
        let text = unit
            .records
            .first()
            .map_or("", |record| record.text.as_str());
        into.add(0, &[text.len() as f32, 1.0]);
        let attack = std::str::from_utf8(setup).unwrap_or_default();
        if attack == "remember" {
            remember(text, into);
        } else if text.starts_with('!') {
            strike(attack, text, into);
        }
    }
}

/// Emits what earlier units left behind; leaves this one for the next.
fn remember(text: &str, into: &Accum) {
    let Ok(mut seen) = SEEN.lock() else { return };
    let count = seen.len() + SEEN_HERE.with_borrow(Vec::len);
    let stolen = seen.last().map_or(0, |text| text.len());
    into.add(2, &[count as f32, stolen as f32]);
    // Freshly allocated memory would hold old units if it were not reset.
    let old = black_box(vec![0_u8; 1 << 20]);
    into.add(4, &[old.iter().map(|byte| f32::from(*byte)).sum()]);
    seen.push(text.to_owned());
    SEEN_HERE.with_borrow_mut(|seen| seen.push(text.to_owned()));
    black_box(vec![0x5a_u8; 4 << 20]);
}

fn strike(attack: &str, text: &str, into: &Accum) {
    match attack {
        "panic" => panic!("{text}"),
        "abort" => std::process::abort(),
        "loop" => loop {
            black_box(text);
        },
        "recurse" => {
            black_box(recurse(text.len() as u64));
        }
        "allocate" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "tensors" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(Tensor::new(&[1.0; 4096]));
            }
        }
        "nan" => {
            let payload = text
                .bytes()
                .fold(0, |bits: u32, byte| bits << 4 ^ u32::from(byte));
            into.add(2, &[f32::from_bits(0x7fc0_0000 | payload & 0x3f_ffff)]);
        }
        "infinity" => into.add(2, &[f32::MAX, f32::MAX * 2.0]),
        "beyond" => into.add(u64::from(DIM) as _, &[1.0]),
        "huge" => {
            let letters: Vec<f32> = text.bytes().map(|byte| f32::from(byte) * 1e30).collect();
            into.add(2, &letters[..letters.len().min(14)]);
        }
        "denormal" => {
            // A letter in each number, too small to be seen, unless the noise were scaled with it.
            let letters: Vec<f32> = text
                .bytes()
                .map(|byte| f32::from_bits(byte.into()))
                .collect();
            into.add(2, &letters[..letters.len().min(14)]);
        }
        "grow" => {
            // Memory grows by a page for every letter; the contribution stays honest.
            text.bytes()
                .for_each(|byte| drop(black_box(vec![byte; 1 << 16])));
            black_box(vec![1_u8; text.len() << 16]);
        }
        "handles" => {
            // Leaves as many handles open as the text has letters.
            text.bytes()
                .for_each(|byte| std::mem::forget(Tensor::new(&[byte.into()])));
        }
        "time" => {
            // Takes long for some texts and not for others; the contribution stays honest.
            let turns = text.bytes().map(u64::from).sum::<u64>() * 1000;
            (0..turns).for_each(|turn| {
                black_box(turn);
            });
        }
        other => panic!("`{other}` is no attack"),
    }
}

#[allow(unconditional_recursion, reason = "that is the attack")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1)) + 1)
}

#[cfg(target_arch = "wasm32")]
noisegate_guest_sdk::export_step!(crate::Hostile);
