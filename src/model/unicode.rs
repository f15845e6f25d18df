//! Characters that are not drawn, by the properties of the Unicode Character Database.
//!
//! Two texts that differ only in such characters look the same, and a bidirectional control
//! changes the order in which its neighbours are shown. [`has_invisible`] accepts them only
//! where they shape a visible character: a joiner in Persian or Indic text, and a joiner or a
//! variation selector in an emoji, because keyboards write them there.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        CanonicalCombiningClass, DefaultIgnorableCodePoint, EmojiModifier, ExtendedPictographic,
        GeneralCategory, JoiningType,
    },
};

const ZERO_WIDTH_NON_JOINER: char = '\u{200C}';
const ZERO_WIDTH_JOINER: char = '\u{200D}';
const TEXT_STYLE: char = '\u{FE0E}';
const EMOJI_STYLE: char = '\u{FE0F}';
const KEYCAP: char = '\u{20E3}';
/// A symbol by its category, but drawn like a space.
const BRAILLE_BLANK: char = '\u{2800}';

/// Controls, format characters (all bidirectional controls among them), separators of lines, and
/// what is ignored by default, such as variation selectors and Hangul fillers.
pub fn is_ignorable(c: char) -> bool {
    let is_control = matches!(
        category(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    is_control || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a reader would not see this character, wherever it stands.
pub fn is_invisible(c: char) -> bool {
    c == BRAILLE_BLANK || is_ignorable(c)
}

/// Whether a character has no meaning in this version of Unicode, so that its normal form and
/// its case can still change.
pub fn is_undefined(c: char) -> bool {
    matches!(
        category(c),
        GeneralCategory::Unassigned | GeneralCategory::PrivateUse
    )
}

/// Whether `text` has a character that a reader would not see.
pub fn has_invisible(text: &str) -> bool {
    with_neighbours(text).any(|(before, c, after)| is_invisible(c) && !shapes(before, c, after))
}

/// Each character with the ones before and after it.
pub fn with_neighbours(text: &str) -> impl Iterator<Item = (Option<char>, char, Option<char>)> {
    let mut before = None;
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = chars.next()?;
        Some((before.replace(c), c, chars.peek().copied()))
    })
}

/// Whether a joiner or variation selector changes how its neighbours look (RFC 5892, appendices
/// A.1 and A.2; UTS #51, section 2).
pub fn shapes(before: Option<char>, c: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    match c {
        ZERO_WIDTH_NON_JOINER => is_virama(before) || after.is_some_and(|c| is_joined(before, c)),
        ZERO_WIDTH_JOINER => is_virama(before) || is_emoji(before) && after.is_some_and(is_picture),
        TEXT_STYLE | EMOJI_STYLE => {
            let is_keycap = before.is_ascii_digit() || before == '#' || before == '*';
            is_picture(before) || is_keycap && after == Some(KEYCAP)
        }
        _ => false,
    }
}

/// The end of an emoji that a joiner can follow.
fn is_emoji(c: char) -> bool {
    is_picture(c) || c == EMOJI_STYLE || CodePointSetData::new::<EmojiModifier>().contains(c)
}

fn is_picture(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}

fn is_virama(c: char) -> bool {
    let class = CodePointMapData::<CanonicalCombiningClass>::new().get(c);
    class == CanonicalCombiningClass::Virama
}

/// Whether two letters of a cursive script are joined when nothing is between them.
fn is_joined(before: char, after: char) -> bool {
    let joining = |c| CodePointMapData::<JoiningType>::new().get(c);
    let (before, after) = (joining(before), joining(after));
    [JoiningType::DualJoining, JoiningType::LeftJoining].contains(&before)
        && [JoiningType::DualJoining, JoiningType::RightJoining].contains(&after)
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_drawn_is_invisible() {
        for c in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{7F}',
            '\u{85}',
            '\u{AD}',
            '\u{34F}',
            '\u{61C}',
            '\u{115F}',
            '\u{180E}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{200E}',
            '\u{2028}',
            '\u{2029}',
            '\u{202A}',
            '\u{202E}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{2069}',
            '\u{2800}',
            '\u{3164}',
            '\u{FE00}',
            '\u{FE0F}',
            '\u{FEFF}',
            '\u{FFA0}',
            '\u{FFF9}',
            '\u{1D173}',
            '\u{E0001}',
            '\u{E0041}',
            '\u{E0100}',
        ] {
            assert!(is_invisible(c), "{c:?}");
            assert!(has_invisible(&format!("a{c}b")), "{c:?}");
        }
        for text in [
            "Ana's laptop",
            "Ană",
            "ნინო",
            "漢字",
            "עברית",
            "हिन्दी",
            "👍🏽",
            "🇵🇹",
            "a\u{301}",
        ] {
            assert!(!has_invisible(text), "{text}");
        }
    }

    #[test]
    fn joiners_and_variation_selectors_may_shape_what_is_drawn() {
        for text in [
            "❤\u{FE0F}",
            "1\u{FE0F}\u{20E3}",
            "👩\u{200D}💻",
            "👩🏽\u{200D}💻",
            "❤\u{FE0F}\u{200D}🔥",
            "می\u{200C}خواهم",
            "क्\u{200D}ष",
            "क्\u{200C}ष",
        ] {
            assert!(!has_invisible(text), "{text}");
        }
        for text in [
            "\u{FE0F}",
            "1\u{FE0F}",
            "a\u{FE0F}",
            "❤\u{FE0F}\u{FE0F}",
            "👩\u{200D}",
            "\u{200D}💻",
            "a\u{200D}b",
            "a\u{200C}b",
            "می\u{200C}",
        ] {
            assert!(has_invisible(text), "{text:?}");
        }
    }

    #[test]
    fn code_points_without_a_character_are_undefined() {
        for c in ['\u{378}', '\u{E000}', '\u{FFFF}', '\u{10FFFD}'] {
            assert!(is_undefined(c), "{c:?}");
        }
        assert!(!is_undefined('a') && !is_undefined('🫠'));
    }
}
