//! The tokenizer inside a GGUF file, as the library's own parts.
//!
//! `gpt2` files hold a byte-level BPE: tokens, merges, and the name of the way texts are cut.
//! `llama` files hold a SentencePiece BPE: tokens and scores, from which merges follow.
//!
//! Deliberately absent: ways to cut that are not in [`CUTS`], and other kinds of tokenizers; their
//! files need a `tokenizer.json` beside them.

use candle_core::quantized::gguf_file::Value;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::decoders::{byte_fallback, fuse, sequence, strip};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::normalizers::{NormalizerWrapper, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::metadata::Metadata;
use crate::tokenizer::{TextTokenizer, merges_by_score};

/// How a byte-level tokenizer cuts a text before merging.
struct Cut {
    /// Values of `tokenizer.ggml.pre` that mean it.
    names: &'static [&'static str],
    /// One after the other, each cutting what the one before it left.
    patterns: &'static [&'static str],
    /// Whether a piece that is a token as a whole is taken without merging.
    whole_first: bool,
    /// Whether texts begin with the file's first token, if it does not say.
    begins: bool,
    normalised: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const DIGIT: &str = r"\p{N}";

const CUTS: [Cut; 4] = [
    Cut {
        names: &["gpt-2"],
        patterns: &[GPT2],
        whole_first: false,
        begins: false,
        normalised: false,
    },
    Cut {
        names: &["smollm"],
        patterns: &[DIGIT, GPT2],
        whole_first: false,
        begins: false,
        normalised: false,
    },
    Cut {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[LLAMA3],
        whole_first: true,
        begins: true,
        normalised: false,
    },
    Cut {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[QWEN2],
        whole_first: false,
        begins: false,
        normalised: true,
    },
];

/// A token's kind, `tokenizer.ggml.token_type`.
const NORMAL: u64 = 1;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

struct Token<'a> {
    text: &'a str,
    kind: u64,
}

/// The tokenizer, and whether texts begin with the file's first token if it does not say.
pub(super) fn inside(metadata: &Metadata<'_>) -> Result<(TextTokenizer, bool), String> {
    let tokens = tokens(metadata)?;
    let (mut inner, begins) = match metadata.text("tokenizer.ggml.model") {
        Some("gpt2") => byte_level(metadata, &tokens)?,
        Some("llama") => (sentence_piece(metadata, &tokens)?, true),
        Some(other) => return Err(format!("a tokenizer of kind `{other}` is not supported")),
        None => return Err("it has no `tokenizer.ggml.model`".to_owned()),
    };
    let added = |kind: u64, special: bool| {
        let tokens = tokens.iter().filter(move |token| token.kind == kind);
        tokens.map(move |token| AddedToken::from(token.text, special).normalized(false))
    };
    let special: Vec<AddedToken> = added(CONTROL, true).collect();
    let other: Vec<AddedToken> = added(USER_DEFINED, false).collect();
    inner.add_special_tokens(special).map_err(words)?;
    inner.add_tokens(other).map_err(words)?;
    Ok((TextTokenizer::from_inner(inner), begins))
}

fn words(error: tokenizers::Error) -> String {
    error.to_string()
}

fn tokens<'a>(metadata: &Metadata<'a>) -> Result<Vec<Token<'a>>, String> {
    let texts = metadata
        .list("tokenizer.ggml.tokens")
        .ok_or("it has no `tokenizer.ggml.tokens`")?;
    let kinds = metadata.list("tokenizer.ggml.token_type");
    let token = |(id, text): (usize, &'a Value)| {
        let Value::String(text) = text else {
            return Err(format!("token {id} is not a text"));
        };
        let kind = match kinds.map(|kinds| kinds.get(id)) {
            None => NORMAL,
            Some(Some(Value::I32(kind))) => u64::try_from(*kind).unwrap_or(NORMAL),
            Some(kind) => {
                let kind = kind.and_then(|kind| kind.to_u64().ok());
                kind.ok_or_else(|| format!("token {id} has no kind"))?
            }
        };
        Ok(Token { text, kind })
    };
    texts.iter().enumerate().map(token).collect()
}

/// Unused tokens only fill the table up.
fn vocab(tokens: &[Token<'_>]) -> Vocab {
    let used = tokens.iter().enumerate();
    used.filter(|(_, token)| token.kind != UNUSED)
        .map(|(id, token)| (token.text.to_owned(), id as u32))
        .collect()
}

fn byte_level(metadata: &Metadata<'_>, tokens: &[Token<'_>]) -> Result<(Tokenizer, bool), String> {
    let name = metadata.text("tokenizer.ggml.pre").unwrap_or("default");
    let Some(cut) = CUTS.iter().find(|cut| cut.names.contains(&name)) else {
        return Err(format!("its way to cut texts, `{name}`, is not known"));
    };
    let merges = metadata
        .list("tokenizer.ggml.merges")
        .ok_or("it has no `tokenizer.ggml.merges`")?;
    let pair = |(rank, merge): (usize, &Value)| match merge {
        // A token never holds a plain space: bytes have printable stand-ins.
        Value::String(merge) => merge
            .split_once(' ')
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
            .ok_or_else(|| format!("merge {rank}, `{merge}`, is not a pair")),
        _ => Err(format!("merge {rank} is not a text")),
    };
    let merges = merges
        .iter()
        .enumerate()
        .map(pair)
        .collect::<Result<Merges, _>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocab(tokens), merges)
        .ignore_merges(cut.whole_first)
        .build()
        .map_err(words)?;
    let mut inner = Tokenizer::new(model);
    if cut.normalised {
        inner.with_normalizer(Some(NFC)).map_err(words)?;
    }
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in cut.patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(words)?;
        steps.push(split.into());
    }
    steps.push(ByteLevel::new(false, false, false).into());
    inner.with_pre_tokenizer(Some(Sequence::new(steps)));
    inner.with_decoder(Some(ByteLevelDecoder::new(false, false, false)));
    Ok((inner, cut.begins))
}

fn sentence_piece(metadata: &Metadata<'_>, tokens: &[Token<'_>]) -> Result<Tokenizer, String> {
    const SPACE: &str = "\u{2581}";
    let scores = metadata
        .list("tokenizer.ggml.scores")
        .filter(|scores| scores.len() == tokens.len())
        .ok_or("it does not have one of `tokenizer.ggml.scores` for each token")?;
    let scored: Vec<(&str, f32)> = tokens
        .iter()
        .zip(scores)
        .map(|(token, score)| (token.text, score.to_f32().unwrap_or(f32::NEG_INFINITY)))
        .collect();
    let merges = merges_by_score(&scored, |id| tokens[id].kind == NORMAL);
    let unknown = metadata
        .token("tokenizer.ggml.unknown_token_id")
        .unwrap_or(0);
    let unknown = tokens
        .get(unknown as usize)
        .ok_or("its unknown token is not there")?;
    let model = BPE::builder()
        .vocab_and_merges(vocab(tokens), merges)
        .unk_token(unknown.text.to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(words)?;
    let mut inner = Tokenizer::new(model);
    let spaced = metadata
        .flag("tokenizer.ggml.add_space_prefix")
        .unwrap_or(true);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if spaced {
        steps.push(Prepend::new(SPACE.to_owned()).into());
    }
    steps.push(Replace::new(" ", SPACE).map_err(words)?.into());
    inner
        .with_normalizer(Some(Normalizers::new(steps)))
        .map_err(words)?;
    let mut steps = vec![
        Replace::new(SPACE, " ").map_err(words)?.into(),
        byte_fallback::ByteFallback::new().into(),
        fuse::Fuse::new().into(),
    ];
    if spaced {
        steps.push(strip::Strip::new(' ', 1, 0).into());
    }
    inner.with_decoder(Some(sequence::Sequence::new(steps)));
    Ok(inner)
}
