//! Which tools say they made a component: its `producers` custom sections.
//!
//! What is read here is the component's own claim, of use to an auditor and
//! trusted by nobody. The reader takes untrusted bytes: every length is checked,
//! and what does not parse is left out.
//!
//! # Source
//! WebAssembly tool conventions, `ProducersSection.md`; component model,
//! `Binary.md`, for the nesting of modules and components.

/// Modules within components within components: more is left out.
const DEPTH_MAX: u32 = 8;

const CUSTOM: u8 = 0;
/// In a component: a core module, and a component.
pub(crate) const NESTED: [u8; 2] = [1, 4];

/// Lines such as `processed-by rustc 1.95.0`, sorted, each once.
pub(crate) fn producers(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    binary(bytes, DEPTH_MAX, &mut found);
    found.sort();
    found.dedup();
    found
}

/// A module or component: its preamble, then its sections.
fn binary(bytes: &[u8], depth: u32, found: &mut Vec<String>) -> Option<()> {
    let rest = bytes.strip_prefix(b"\0asm")?;
    let (version, mut rest) = rest.split_at_checked(4)?;
    let is_component = version[2] == 1;
    while let Some((&id, after_id)) = rest.split_first() {
        let (payload, after) = sized(after_id)?;
        rest = after;
        if id == CUSTOM {
            custom(payload, found);
        } else if is_component && NESTED.contains(&id) && depth > 0 {
            binary(payload, depth - 1, found);
        }
    }
    Some(())
}

fn custom(payload: &[u8], found: &mut Vec<String>) -> Option<()> {
    let (name, rest) = sized(payload)?;
    if name != b"producers" {
        return None;
    }
    let (fields, mut rest) = number(rest)?;
    for _ in 0..fields {
        let (field, after_field) = text(rest)?;
        let (values, after_count) = number(after_field)?;
        rest = after_count;
        for _ in 0..values {
            let (tool, after_tool) = text(rest)?;
            let (version, after_version) = text(after_tool)?;
            rest = after_version;
            found.push(format!("{field} {tool} {version}").trim_end().to_owned());
        }
    }
    Some(())
}

/// Text that is safe to print, and what follows it.
fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (text, rest) = sized(bytes)?;
    let text = std::str::from_utf8(text).ok()?;
    let printable = text
        .chars()
        .filter(|it| !it.is_control())
        .take(200)
        .collect();
    Some((printable, rest))
}

/// As many bytes as the number before them says, and what follows them.
pub(crate) fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = number(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// An unsigned LEB128 number of at most 32 bits, and what follows it.
pub(crate) fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECTION: &[u8] =
        b"\x00\x2a\x09producers\x02\x08language\x01\x04Rust\x00\x03sdk\x01\x05maker\x03\x1b\x0a2";

    fn module() -> Vec<u8> {
        [b"\0asm\x01\0\0\0".as_slice(), SECTION].concat()
    }

    #[test]
    fn tools_are_read_from_a_module_inside_a_component() {
        let module = module();
        let len = u8::try_from(module.len()).unwrap();
        let component = [b"\0asm\x0d\0\x01\0\x01".as_slice(), &[len], &module].concat();
        assert_eq!(producers(&component), ["language Rust", "sdk maker 2"]);
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_read_as_far_as_they_go(at in 0_usize..60, byte: u8, len in 0_usize..60) {
            let mut bytes = module();
            let at = at % bytes.len();
            bytes[at] = byte;
            producers(&bytes[..len.min(bytes.len())]);
        }
    }
}
