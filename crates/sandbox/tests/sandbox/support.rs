//! Small guests for tests, written as WebAssembly text and in a
//! component of the world `client-step` ([`WORLD`]).
//!
//! [`Text::default`] is an honest guest: it asks `queries` queries of dimension
//! `dim`, contributes `[bytes of the first text, 1, 0, …]`, and outputs every
//! released vector as a file of raw f32. Tests replace the part they attack.

#![allow(dead_code, reason = "the bench uses a part of it")]

/// The parts of a guest that tests vary.
pub struct Text {
    pub dim: u32,
    pub queries: u32,
    /// Body of `contribute`; locals `$i`, `$f`, `$d`; ends before the accumulator is dropped.
    pub contribute: String,
    /// Body of `start` that leaves the address of a `result<setup, string>`.
    pub start: String,
    /// Body of `next` that leaves the address of a `turn`.
    pub next: String,
    /// Body of `outputs` that leaves the address of a `result<list<file>, string>`.
    pub outputs: String,
    /// More imports of the core module.
    pub imports: String,
    /// More module fields: globals, data, functions.
    pub fields: String,
    /// Initial memory pages.
    pub pages: u32,
}

/// `accum[0] += bytes of the first text`, `accum[1] += 1`.
pub const COUNT: &str = "
    (call $emit (local.get $into) (i64.const 0)
        (f32.convert_i32_u (i32.load offset=4 (local.get $records))))
    (call $emit (local.get $into) (i64.const 1) (f32.const 1))";

impl Default for Text {
    fn default() -> Self {
        Text {
            dim: 4,
            queries: 1,
            contribute: COUNT.to_owned(),
            start: "
                (i32.store8 (i32.const 128) (i32.const 0))
                (i32.store (i32.const 132) (i32.const DIM))
                (i32.store (i32.const 136) (i32.const QUERIES))
                (i32.const 128)"
                .to_owned(),
            next: "
                (if (i32.eq (global.get $asked) (i32.const QUERIES))
                    (then (i32.store8 (i32.const 192) (i32.const 2)))
                    (else
                        (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
                        (i32.store8 (i32.const 192) (i32.const 0))))
                (i32.const 192)"
                .to_owned(),
            outputs: "
                (i32.store8 (i32.const 256) (i32.const 0))
                (i32.store (i32.const 260) (i32.const 4096))
                (i32.store (i32.const 264) (global.get $absorbed))
                (i32.const 256)"
                .to_owned(),
            imports: String::new(),
            fields: String::new(),
            pages: 2,
        }
    }
}

impl Text {
    /// The core module's text.
    pub fn wat(&self) -> String {
        TEMPLATE
            .replace("START", &self.start)
            .replace("NEXT", &self.next)
            .replace("OUTPUTS", &self.outputs)
            .replace("CONTRIBUTE", &self.contribute)
            .replace("IMPORTS", &self.imports)
            .replace("FIELDS", &self.fields)
            .replace("PAGES", &self.pages.to_string())
            .replace("DIM", &self.dim.to_string())
            .replace("QUERIES", &self.queries.to_string())
    }

    /// The component's bytes.
    pub fn component(&self) -> Vec<u8> {
        component(&self.wat(), WORLD)
    }
}

/// Puts a core module's text into a component with `world` around it.
pub fn component(module: &str, world: &str) -> Vec<u8> {
    let text = world.replace("MODULE", module);
    wat::parse_str(&text).unwrap_or_else(|error| panic!("the test guest is invalid: {error}"))
}

/// The component around a module: what an encoder makes of `client.wit`.
pub const WORLD: &str = include_str!("world.wat");

const TEMPLATE: &str = r#"
(core module $guest
  (import "noisegate:client/kernels@0.1.0" "[method]accum.add"
    (func $accum_add (param i32 i64 i32 i32)))
  (import "noisegate:client/kernels@0.1.0" "[resource-drop]accum"
    (func $accum_drop (param i32)))
  IMPORTS
  (memory (export "memory") PAGES)
  (data (i32.const 512) "released")
  (global $heap (mut i32) (i32.const 65536))
  (global $asked (mut i32) (i32.const 0))
  (global $absorbed (mut i32) (i32.const 0))
  FIELDS

  (func $emit (param $into i32) (param $offset i64) (param $value f32)
    (f32.store (i32.const 64) (local.get $value))
    (call $accum_add (local.get $into) (local.get $offset) (i32.const 64) (i32.const 1)))

  (func $realloc (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $place i32)
    (local.set $place (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $place) (local.get $size)))
    (block $fits
      (loop $grow
        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        (unreachable)))
    (local.get $place))

  (func (export "noisegate:client/public-side@0.1.0#start")
    (param $config i32) (param $config_len i32) (param $inputs i32) (param $inputs_len i32)
    (result i32)
    START)

  (func (export "noisegate:client/public-side@0.1.0#next") (result i32)
    NEXT)

  ;; Keeps every released vector as the file `released`, in the list at 4096.
  (func (export "noisegate:client/public-side@0.1.0#absorb") (param $values i32) (param $len i32)
    (local $file i32)
    (local.set $file (i32.add (i32.const 4096) (i32.mul (global.get $absorbed) (i32.const 16))))
    (i32.store (local.get $file) (i32.const 512))
    (i32.store offset=4 (local.get $file) (i32.const 8))
    (i32.store offset=8 (local.get $file) (local.get $values))
    (i32.store offset=12 (local.get $file) (i32.mul (local.get $len) (i32.const 4)))
    (global.set $absorbed (i32.add (global.get $absorbed) (i32.const 1))))

  (func (export "noisegate:client/public-side@0.1.0#outputs") (result i32)
    OUTPUTS)

  (func (export "noisegate:client/private-side@0.1.0#contribute")
    (param $records i32) (param $records_len i32)
    (param $setup i32) (param $setup_len i32)
    (param $query i32) (param $query_len i32)
    (param $tensors i32) (param $tensors_len i32)
    (param $into i32)
    (local $i i32) (local $f f32) (local $d f64)
    CONTRIBUTE
    (call $accum_drop (local.get $into))))
"#;
