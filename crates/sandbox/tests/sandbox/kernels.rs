//! The kernels as a guest calls them: what it gets, what it pays, what traps.

use noisegate_sandbox::kernels::math::Product;
use noisegate_sandbox::{Guest, Rehearsal, Session};
use proptest::prelude::*;

use crate::kernel_maths::{offset, packed, size};
use crate::support::Text;
use crate::support_session::{declaration, limits, unit};

/// A guest that has all kernels imported and a tensor of 0, 1, … 15 as context.
fn guest_calling(contribute: &str) -> Text {
    let kernel = |name: &str, alias: &str, signature: &str| {
        format!(r#"(import "noisegate:client/kernels@0.1.0" "{name}" (func ${alias} {signature}))"#)
    };
    let imports = [
        kernel(
            "[constructor]tensor",
            "tensor",
            "(param i32 i32) (result i32)",
        ),
        kernel("[resource-drop]tensor", "tensor_drop", "(param i32)"),
        kernel(
            "[method]tensor.len",
            "tensor_len",
            "(param i32) (result i64)",
        ),
        kernel(
            "[method]tensor.read",
            "tensor_read",
            "(param i32 i64 i32 i32)",
        ),
        kernel("[method]accum.len", "accum_len", "(param i32) (result i64)"),
        kernel(
            "gemm",
            "gemm",
            "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
        ),
        kernel(
            "gemm-w",
            "gemm_w",
            "(param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
        ),
        kernel(
            "gemm-acc",
            "gemm_acc",
            "(param i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
        ),
        kernel("gather", "gather", "(param i32 i64 i32 i32 i32 i32)"),
        kernel(
            "scatter-add",
            "scatter_add",
            "(param i32 i64 i32 i32 i32 i32 i32)",
        ),
    ];
    let floats: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let data: String = floats.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let start = "
        (i32.store8 (i32.const 128) (i32.const 0))
        (i32.store (i32.const 132) (i32.const DIM))
        (i32.store (i32.const 136) (i32.const QUERIES))
        (i32.store (i32.const 140) (i32.const 700))
        (i32.store (i32.const 144) (i32.const 1))
        (i32.store (i32.const 700) (i32.const 1024))
        (i32.store (i32.const 704) (i32.const 16))
        (i32.const 128)";
    Text {
        dim: 8,
        contribute: format!(
            "(local.set $tensors (i32.load (local.get $tensors)))
            {contribute}
            (call $tensor_drop (local.get $tensors))"
        ),
        start: start.to_owned(),
        imports: imports.concat(),
        // The numbers 0, 1, … 15 at 1024, the rows 1, 3 at 1200.
        fields: format!(
            r#"(data (i32.const 1024) "{data}") (data (i32.const 1200) "\01\00\00\00\03\00\00\00")"#
        ),
        ..Text::default()
    }
}

fn rehearse(text: &Text) -> Rehearsal {
    let guest = Guest::load(&text.component(), None, &limits()).unwrap();
    let mut session = Session::start(&guest, "{}", &[], declaration(1)).unwrap();
    session.rehearse(&unit("made up"), &mut |_| {}).unwrap()
}

/// Adds the list whose pointer and length lie at 800 to the contribution.
const EMIT_RESULT: &str = "(call $accum_add (local.get $into) (i64.const 0)
    (i32.load (i32.const 800)) (i32.load offset=4 (i32.const 800)))";

fn norm_of(contribute: &str) -> f64 {
    let seen = rehearse(&guest_calling(contribute));
    assert_eq!(seen.problem, None);
    seen.norm.powi(2).round()
}

#[test]
fn a_guest_reads_the_context_and_its_own_tensors() {
    // 4, 5, 6 of the context.
    let read = format!(
        "(call $tensor_read (local.get $tensors) (i64.const 4) (i32.const 3) (i32.const 800))
        {EMIT_RESULT}"
    );
    assert_eq!(norm_of(&read), 16.0 + 25.0 + 36.0);
    // 1, 2 of a tensor made from memory.
    let own = format!(
        "(local.set $i (call $tensor (i32.const 1024) (i32.const 3)))
        (call $tensor_read (local.get $i) (i64.const 1) (i32.const 2) (i32.const 800))
        {EMIT_RESULT} (call $tensor_drop (local.get $i))"
    );
    assert_eq!(norm_of(&own), 5.0);
    let lengths = "
        (call $emit (local.get $into) (i64.const 0)
            (f32.convert_i64_u (call $tensor_len (local.get $tensors))))
        (call $emit (local.get $into) (i64.const 1)
            (f32.convert_i64_u (call $accum_len (local.get $into))))";
    assert_eq!(norm_of(lengths), 256.0 + 64.0);
}

/// A product as a guest passes it.
fn told(product: Product) -> String {
    let Product {
        m,
        k,
        n,
        lda,
        ldb,
        ldc,
        trans_a,
        trans_b,
    } = product;
    [
        m,
        k,
        n,
        lda,
        ldb,
        ldc,
        u32::from(trans_a),
        u32::from(trans_b),
    ]
    .map(|number| format!("(i32.const {number})"))
    .join(" ")
}

#[test]
fn a_guest_gets_the_products_it_asks_for() {
    // [0 1; 2 3] * [0 1; 2 3] = [2 3; 6 11]; with b transposed [1 3; 3 13].
    let gemm = |product: Product, b_len: u32| {
        format!(
            "(call $gemm (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const {b_len})
                {} (i32.const 800)) {EMIT_RESULT}",
            told(product)
        )
    };
    let square = packed((2, 2, 2), false, false);
    let norm = f64::from(4 + 9 + 36 + 121);
    assert_eq!(norm_of(&gemm(square, 4)), norm);
    let transposed = packed((2, 2, 2), false, true);
    assert_eq!(norm_of(&gemm(transposed, 4)), f64::from(1 + 9 + 9 + 169));
    // A b of every third pair, [0 1; 3 4]: [3 4; 9 14]; gaps in c are zero.
    let strided = Product {
        ldb: 3,
        ldc: 4,
        ..square
    };
    assert_eq!(norm_of(&gemm(strided, 5)), f64::from(9 + 16 + 81 + 196));
    // [0 1] * [4 5; 6 7] from the context at 4 = [6 7]; with rows 5 apart, [0 1] * [4 5; 9 10].
    let gemm_w = |product: Product| {
        format!(
            "(call $gemm_w (i32.const 1024) (i32.const 2) (local.get $tensors) (i64.const 4)
                {} (i32.const 800)) {EMIT_RESULT}",
            told(product)
        )
    };
    let row = packed((1, 2, 2), false, false);
    assert_eq!(norm_of(&gemm_w(row)), f64::from(36 + 49));
    assert_eq!(
        norm_of(&gemm_w(Product { ldb: 5, ..row })),
        f64::from(81 + 100)
    );
    // Twice into the contribution (8 numbers) at 3: [0 1]^T * [1 2] = [0 0; 1 2]; so with
    // rows 3 apart, but 4 apart the last number would lie at 3 + 4 + 1.
    let gemm_acc = |product: Product| {
        format!(
            "(call $gemm_acc (local.get $into) (i64.const 3)
                (i32.const 1024) (i32.const 2) (i32.const 1028) (i32.const 2) {})",
            told(product)
        )
    };
    let outer = packed((2, 1, 2), true, false);
    assert_eq!(norm_of(&gemm_acc(outer).repeat(2)), f64::from(4 + 16));
    assert_eq!(
        norm_of(&gemm_acc(Product { ldc: 3, ..outer })),
        f64::from(1 + 4)
    );
    let beyond = rehearse(&guest_calling(&gemm_acc(Product { ldc: 4, ..outer })));
    assert!(beyond.problem.unwrap().contains("beyond the end"));
    let overlapping = rehearse(&guest_calling(&gemm(Product { ldb: 1, ..square }, 3)));
    assert!(overlapping.problem.unwrap().contains("apart"));
}

#[test]
fn a_guest_gathers_and_scatters_rows() {
    // Rows 1 and 3 of the 2-wide table at 1: 3, 4 and 7, 8.
    let gather = format!(
        "(call $gather (local.get $tensors) (i64.const 1) (i32.const 2)
            (i32.const 1200) (i32.const 2) (i32.const 800)) {EMIT_RESULT}"
    );
    assert_eq!(norm_of(&gather), f64::from(9 + 16 + 49 + 64));
    let scatter = "(call $scatter_add (local.get $into) (i64.const 0) (i32.const 2)
        (i32.const 1200) (i32.const 2) (i32.const 1024) (i32.const 4))";
    assert_eq!(norm_of(scatter), f64::from(1 + 4 + 9));
}

#[test]
fn a_kernel_is_charged_before_it_computes() {
    // 65535^3 operations on lists that are not there: refused for fuel first.
    let huge = format!(
        "(call $gemm (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) {} (i32.const 800))",
        told(packed((65535, 65535, 65535), false, false))
    );
    let seen = rehearse(&guest_calling(&huge));
    assert!(seen.problem.unwrap().contains("fuel"));
    assert_eq!(seen.fuel_used, limits().private.fuel_per_call);
}

#[test]
fn a_kernels_price_grows_with_its_work() {
    let product = |n: u32| {
        let call = format!(
            "(call $gemm (i32.const 4096) (i32.const {n}) (i32.const 4096) (i32.const {n})
                {} (i32.const 800))",
            told(packed((n, 1, n), false, false))
        );
        let seen = rehearse(&guest_calling(&call));
        assert_eq!(seen.problem, None);
        seen.fuel_used
    };
    // 2 n^2 flops and n^2 numbers, against four times that.
    let (small, large) = (product(200), product(400));
    let grown = (large - small) as f64 / (3.0 * 40_000.0 * (1.0 + 2.0 / 16.0));
    assert!((grown - 1.0).abs() < 0.01, "{grown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a guest passes through the real interface, the host answers
    /// with a result or a trap. A rehearsal does not catch panics.
    #[test]
    fn no_arguments_make_a_kernel_panic(
        which in 0..7,
        handle in 0_u32..4, offset in offset(), m in size(), k in size(), n in size(),
        strides in proptest::option::of((size(), size(), size())),
        a in (0_u32..70_000, 0_u32..300), b in (0_u32..70_000, 0_u32..300),
        align: bool, trans_a: bool, trans_b: bool,
    ) {
        let list = |(start, len): (u32, u32)| {
            let start = if align { start & !3 } else { start };
            format!("(i32.const {start}) (i32.const {len})")
        };
        let (a, b) = (list(a), list(b));
        let mut product = packed((m, k, n), trans_a, trans_b);
        if let Some((lda, ldb, ldc)) = strides {
            product = Product { lda, ldb, ldc, ..product };
        }
        let product = told(product);
        // Handles count from 1 in the guest's table: tensor, then accumulator.
        let (handle, offset) = (format!("(i32.const {handle})"), format!("(i64.const {offset})"));
        let out = "(i32.const 800)";
        let call = match which {
            0 => format!("(call $gemm {a} {b} {product} {out})"),
            1 => format!("(call $gemm_w {a} {handle} {offset} {product} {out})"),
            2 => format!("(call $gemm_acc {handle} {offset} {a} {b} {product})"),
            3 => format!("(call $gather {handle} {offset} (i32.const {m}) {a} {out})"),
            4 => format!("(call $scatter_add {handle} {offset} (i32.const {m}) {a} {b})"),
            5 => format!("(call $tensor_read {handle} {offset} (i32.const {m}) {out})"),
            _ => format!("(call $accum_add {handle} {offset} {a})"),
        };
        let seen = rehearse(&guest_calling(&call));
        prop_assert!(seen.fuel_used > 0);
    }
}
