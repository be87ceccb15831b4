//! The kernels: right answers for shapes that fit, a refusal for all others.

use noisegate_sandbox::kernels::KernelError;
use noisegate_sandbox::kernels::math::{
    Product, add, gather, gathered_len, matmul, range, scatter_add,
};
use noisegate_sandbox::{Guest, Rehearsal, Session};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::Text;
use crate::support_session::{declaration, limits, unit};

/// A product without gaps.
fn packed((m, k, n): (u32, u32, u32), trans_a: bool, trans_b: bool) -> Product {
    Product {
        m,
        k,
        n,
        lda: if trans_a { m } else { k },
        ldb: if trans_b { k } else { n },
        ldc: n,
        trans_a,
        trans_b,
    }
}

/// Lengths of `a`, `b` and `c`; an error if rows overlap.
fn lengths(product: Product) -> Result<[u64; 3], KernelError> {
    Ok([
        product.a().numbers()?,
        product.b().numbers()?,
        product.c().numbers()?,
    ])
}

/// The borders of what is computed turned, each with gaps between the rows of everything.
#[test]
fn a_product_is_right_at_each_border_of_the_turned_ones() {
    for m in [1, 15, 16, 17, 128, 129] {
        for n in [1, 128, 129, 511, 512, 513, 1024, 1025] {
            for (k, trans_a) in [(1, false), (1, true), (3, false), (3, true)] {
                let mut product = packed((m, k, n), trans_a, true);
                product.lda += 2;
                product.ldb += 3;
                product.ldc += 5;
                let [a, b, c] = lengths(product).unwrap().map(|len| numbers(len as usize));
                let mut expected = c.clone();
                for row in expected.chunks_mut(product.ldc as usize) {
                    row[..n as usize].fill(0.0);
                }
                naive(product, &a, &b, &mut expected);
                let mut found = c;
                matmul(product, &a, &b, &mut found, false).unwrap();
                assert_eq!(found, expected, "{product:?}");
            }
        }
    }
}

/// What one block leaves behind must not reach the next.
#[test]
fn a_nan_stays_in_its_column() {
    let product = packed((16, 2, 513), false, true);
    let [a, mut b, mut c] = lengths(product).unwrap().map(|len| numbers(len as usize));
    b[2 * 100] = f32::NAN;
    matmul(product, &a, &b, &mut c, false).unwrap();
    for (at, value) in c.iter().enumerate() {
        assert_eq!(value.is_nan(), at % 513 == 100, "{at}");
    }
}

/// Sizes a caller means, and sizes it must not get away with.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => 0_u32..20,
        1 => Just(u32::MAX),
        1 => Just(1 << 16),
        1 => Just(1 << 31),
        1 => any::<u32>(),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..50, 1 => Just(u64::MAX), 1 => Just(1 << 62), 1 => any::<u64>()]
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect()
}

/// `c[i, j] += a[i, l] * b[l, j]`, with every place written out.
fn naive(product: Product, a: &[f32], b: &[f32], c: &mut [f32]) {
    let place = |row: u32, column: u32, stride: u32, transposed: bool| {
        let (row, column) = if transposed {
            (column, row)
        } else {
            (row, column)
        };
        (row * stride + column) as usize
    };
    let Product {
        lda,
        ldb,
        ldc,
        trans_a,
        trans_b,
        ..
    } = product;
    for i in 0..product.m {
        for j in 0..product.n {
            for l in 0..product.k {
                c[place(i, j, ldc, false)] +=
                    a[place(i, l, lda, trans_a)] * b[place(l, j, ldb, trans_b)];
            }
        }
    }
}

proptest! {
    #[test]
    fn a_product_of_any_shape_and_strides_is_right(
        m in prop_oneof![0_u32..24, 0_u32..140], k in 0_u32..24, n in prop_oneof![0_u32..24, 0_u32..1200], gaps in (0_u32..9, 0_u32..9, 0_u32..9),
        trans_a: bool, trans_b: bool, accumulate: bool,
    ) {
        let mut product = packed((m, k, n), trans_a, trans_b);
        product.lda += gaps.0;
        product.ldb += gaps.1;
        product.ldc += gaps.2;
        let [a, b, c] = lengths(product).unwrap().map(|len| numbers(len as usize));
        let mut expected = c.clone();
        if !accumulate {
            for row in expected.chunks_mut(product.ldc.max(1) as usize) {
                row[..n as usize].fill(0.0);
            }
        }
        naive(product, &a, &b, &mut expected);
        let mut found = c;
        matmul(product, &a, &b, &mut found, accumulate).unwrap();
        // Small integers: every order of summation is exact. What lies in the gaps stays.
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_product_is_computed_only_if_strides_and_all_three_lengths_fit(
        m in size(), k in size(), n in size(), strides in (size(), size(), size()),
        gaps: [bool; 3], fitting: [bool; 3],
        any in (0_usize..500, 0_usize..500, 0_usize..500),
        trans_a: bool, trans_b: bool, accumulate: bool,
    ) {
        let mut product = packed((m, k, n), trans_a, trans_b);
        if gaps[0] { product.lda = strides.0; }
        if gaps[1] { product.ldb = strides.1; }
        if gaps[2] { product.ldc = strides.2; }
        let right = lengths(product);
        let any = [any.0, any.1, any.2];
        let lens: [usize; 3] = std::array::from_fn(|i| match &right {
            Ok(right) if fitting[i] && right[i] < 1 << 16 => right[i] as usize,
            _ => any[i],
        });
        let fits = right.is_ok_and(|right| right == lens.map(|len| len as u64));
        let [a, b, mut into] = lens.map(numbers);
        let done = matmul(product, &a, &b, &mut into, accumulate);
        prop_assert_eq!(done.is_ok(), fits);
        if !fits {
            prop_assert_eq!(into, numbers(lens[2]));
        }
    }

    #[test]
    fn no_sizes_overflow_a_products_lengths(
        m: u32, k: u32, n: u32, ld in (any::<u32>(), any::<u32>(), any::<u32>()),
        trans_a: bool, trans_b: bool,
    ) {
        let (lda, ldb, ldc) = ld;
        let product = Product { m, k, n, lda, ldb, ldc, trans_a, trans_b };
        let widest = Product { m: u32::MAX, k: u32::MAX, n: u32::MAX, ..packed((0, 0, 0), trans_a, trans_b) };
        let widest = Product { lda: u32::MAX, ldb: u32::MAX, ldc: u32::MAX, ..widest };
        let (most, len) = (u64::from(u32::MAX).pow(2), lengths(product));
        prop_assert!(len.is_err() || len.unwrap().iter().all(|len| *len <= most));
        prop_assert_eq!(lengths(widest).unwrap(), [most; 3]);
        prop_assert!(product.flops() <= widest.flops());
    }

    #[test]
    fn a_range_is_given_only_if_it_lies_within(len in 0_usize..100, from in offset(), count in offset()) {
        let values = numbers(len);
        let fits = from.checked_add(count).is_some_and(|end| end <= len as u64);
        match range(&values, from, count) {
            Ok(found) => prop_assert!(fits && found.len() as u64 == count),
            Err(error) => {
                let is_range = matches!(error, KernelError::Range { .. });
                prop_assert!(!fits && is_range);
            }
        }
    }

    #[test]
    fn gathered_rows_are_the_tables_rows(
        table in 0_usize..200, from in offset(), width in size(), rows in vec(size(), 0..6),
    ) {
        let table = numbers(table);
        prop_assume!(gathered_len(width, rows.len()).is_ok_and(|len| len < 1 << 24));
        let expected: Option<Vec<f32>> = rows
            .iter()
            .map(|&row| {
                let start = from.checked_add(u64::from(row) * u64::from(width))?;
                table.get(usize::try_from(start).ok()?..)?.get(..width as usize)
            })
            .collect::<Option<Vec<&[f32]>>>()
            .map(|rows| rows.concat());
        prop_assert_eq!(gather(&table, from, width, &rows).ok(), expected);
    }

    #[test]
    fn scattered_rows_are_added_or_refused(
        table in 0_usize..200, from in offset(), width in size(), rows in vec(size(), 0..6),
        values in 0_usize..60,
    ) {
        let mut into = numbers(table);
        let length_fits = u64::from(width) * rows.len() as u64 == values as u64;
        let rows_fit = rows.iter().all(|&row| {
            from.checked_add(u64::from(row) * u64::from(width))
                .and_then(|start| start.checked_add(u64::from(width)))
                .is_some_and(|end| end <= table as u64)
        });
        let values = numbers(values);
        let done = scatter_add(&mut into, from, width, &rows, &values);
        prop_assert_eq!(done.is_ok(), length_fits && rows_fit);
        if done.is_ok() {
            let added = into.iter().sum::<f32>() - numbers(table).iter().sum::<f32>();
            prop_assert_eq!(added, values.iter().sum::<f32>());
        }
    }

    #[test]
    fn adding_needs_equal_lengths(into in 0_usize..50, values in 0_usize..50) {
        let mut sums = numbers(into);
        prop_assert_eq!(add(&mut sums, &numbers(values)).is_ok(), into == values);
    }
}

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
