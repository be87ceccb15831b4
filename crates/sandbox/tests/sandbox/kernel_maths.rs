//! The arithmetic of the kernels: right for sizes that fit, a refusal for all others.

use noisegate_sandbox::kernels::KernelError;
use noisegate_sandbox::kernels::math::{
    Product, add, gather, gathered_len, matmul, range, scatter_add,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A product without gaps.
pub(crate) fn packed((m, k, n): (u32, u32, u32), trans_a: bool, trans_b: bool) -> Product {
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
pub(crate) fn lengths(product: Product) -> Result<[u64; 3], KernelError> {
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
pub(crate) fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => 0_u32..20,
        1 => Just(u32::MAX),
        1 => Just(1 << 16),
        1 => Just(1 << 31),
        1 => any::<u32>(),
    ]
}

pub(crate) fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..50, 1 => Just(u64::MAX), 1 => Just(1 << 62), 1 => any::<u64>()]
}

pub(crate) fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect()
}

/// `c[i, j] += a[i, l] * b[l, j]`, with every place written out.
pub(crate) fn naive(product: Product, a: &[f32], b: &[f32], c: &mut [f32]) {
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
