//! The fuzz targets' functions on random and on damaged bytes: they return.
//!
//! `cargo fuzz` goes much further (`crates/sandbox/fuzz`); this keeps them working.

use noisegate_sandbox::fuzzing;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::Text;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_of_a_worker_make_the_parent_panic(bytes in vec(any::<u8>(), 0..200)) {
        fuzzing::messages(&bytes);
        fuzzing::questions(&bytes);
    }

    /// Counts and lengths that are almost right.
    #[test]
    fn no_counts_make_the_parent_allocate_what_was_not_sent(
        words in vec(prop_oneof![0_u32..4, Just(u32::MAX), any::<u32>()], 0..40),
        cut in 0_usize..4,
    ) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bytes = &bytes[..bytes.len().saturating_sub(cut)];
        fuzzing::messages(bytes);
        fuzzing::questions(bytes);
    }

    #[test]
    fn no_shapes_offsets_or_lengths_make_a_kernel_panic(bytes in vec(any::<u8>(), 0..120)) {
        fuzzing::kernels(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_to_a_component_makes_the_loader_panic(
        place in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Text::default().component();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        fuzzing::component(&bytes);
        fuzzing::component(&bytes[..cut.index(bytes.len())]);
    }
}
