//! portal
/// .
pub fn generate(_seed: u64, _count: usize) -> Vec<(String, String)> {
    vec![]
}
