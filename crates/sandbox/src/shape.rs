//! Refuses code whose compilation could take very long, before it is compiled.
//!
//! The compiler's time is about linear in the number of functions, but not in the size
//! of a single one: it keeps track of every local at every branch. So the size of a
//! function's body, its locals, and the product of the two are bounded, and the number
//! of functions. What passes is compiled under a clock ([`crate::component`]).
//!
//! The reader takes untrusted bytes: every length is checked, and it stops where
//! something does not parse; the validator then says what.
//!
//! # Source
//! WebAssembly core specification 2.0, section 5.5.13 (code section); component model,
//! `Binary.md`, for the nesting of modules and components.

use crate::error::SandboxError;
use crate::producers::{NESTED, number, sized};

/// Bytes of one function's body.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Locals of one function.
const LOCALS_MAX: u64 = 10_000;
/// Bytes of a body times its locals: what makes the compiler's tables large.
const BODY_TIMES_LOCALS_MAX: u64 = 1 << 28;
/// Functions of all modules together.
const FUNCTIONS_MAX: u64 = 200_000;
/// Modules within components within components: deeper ones are refused.
const DEPTH_MAX: u32 = 8;

const CODE: u8 = 10;

/// Looks at every function of every core module in a component.
///
/// # Errors
/// [`SandboxError::TooComplex`], for the first bound that is exceeded.
pub(crate) fn check(bytes: &[u8]) -> Result<(), SandboxError> {
    let mut functions = 0;
    binary(bytes, DEPTH_MAX, &mut functions)
}

/// A module or component: its preamble, then its sections.
fn binary(bytes: &[u8], depth: u32, functions: &mut u64) -> Result<(), SandboxError> {
    let Some((version, mut rest)) = bytes
        .strip_prefix(b"\0asm")
        .and_then(|rest| rest.split_at_checked(4))
    else {
        return Ok(());
    };
    let is_component = version[2] == 1;
    bound("nested components", u64::from(depth == 0), 0)?;
    while let Some((&id, after_id)) = rest.split_first() {
        let Some((payload, after)) = sized(after_id) else {
            return Ok(());
        };
        rest = after;
        if is_component && NESTED.contains(&id) {
            binary(payload, depth - 1, functions)?;
        } else if !is_component && id == CODE {
            code(payload, functions)?;
        }
    }
    Ok(())
}

fn code(payload: &[u8], functions: &mut u64) -> Result<(), SandboxError> {
    let Some((count, mut rest)) = number(payload) else {
        return Ok(());
    };
    *functions += u64::from(count);
    bound("a number of functions", *functions, FUNCTIONS_MAX)?;
    for _ in 0..count {
        let Some((body, after)) = sized(rest) else {
            return Ok(());
        };
        rest = after;
        let (size, locals) = (body.len() as u64, locals(body).unwrap_or(0));
        bound("a function's size in bytes", size, BODY_BYTES_MAX)?;
        bound("a function's number of locals", locals, LOCALS_MAX)?;
        bound(
            "a function's size times its locals",
            size * locals,
            BODY_TIMES_LOCALS_MAX,
        )?;
    }
    Ok(())
}

/// How many locals a body declares, in groups of a count and a type.
fn locals(body: &[u8]) -> Option<u64> {
    let (groups, mut rest) = number(body)?;
    let mut locals = 0_u64;
    for _ in 0..groups {
        let (count, after) = number(rest)?;
        locals += u64::from(count);
        // A type is one byte, or a reference type with a number behind it.
        let (&kind, after) = after.split_first()?;
        rest = if matches!(kind, 0x63 | 0x64) {
            number(after)?.1
        } else {
            after
        };
    }
    Some(locals)
}

fn bound(what: &'static str, found: u64, limit: u64) -> Result<(), SandboxError> {
    if found > limit {
        return Err(SandboxError::TooComplex { what, found, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(module: &str) -> &'static str {
        match check(&wat::parse_str(module).unwrap()) {
            Err(SandboxError::TooComplex { what, .. }) => what,
            _ => "nothing",
        }
    }

    #[test]
    fn large_bodies_many_locals_and_many_functions_are_refused() {
        assert_eq!(refused("(module (func (local i32 i64)))"), "nothing");
        let large = format!(
            "(module (func {}))",
            "(drop (i64.const 123456789))".repeat(200_000)
        );
        assert_eq!(refused(&large), "a function's size in bytes");
        let locals = format!("(module (func (local {})))", "i32 ".repeat(10_001));
        assert_eq!(refused(&locals), "a function's number of locals");
        let both = format!(
            "(module (func (local {}) {}))",
            "i32 ".repeat(9000),
            "(local.set 0 (i32.const 1))".repeat(10_000)
        );
        assert_eq!(refused(&both), "a function's size times its locals");
        let many = format!("(module {})", "(func)".repeat(200_001));
        assert_eq!(refused(&many), "a number of functions");
    }

    #[test]
    fn modules_inside_components_are_looked_at_and_deep_nesting_is_refused() {
        let locals = format!("(func (local {}))", "i32 ".repeat(10_001));
        let nested = format!("(component (component (core module {locals})))");
        assert_eq!(refused(&nested), "a function's number of locals");
        let deep = format!("{}{}", "(component ".repeat(12), ")".repeat(12));
        assert_eq!(refused(&deep), "nested components");
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0_usize..200, byte: u8, len in 0_usize..200) {
            let text = "(component (core module (func (local i32 i64) (drop (i32.const 1)))))";
            let mut bytes = wat::parse_str(text).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = check(&bytes[..len.min(bytes.len())]);
        }
    }
}
