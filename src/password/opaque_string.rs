//! The normal form of a password: the profile `OpaqueString` of RFC 8265, section 4.2.
//!
//! Spaces other than U+0020 become U+0020, because some keyboards write a no-break space, and
//! the text is put into NFC. Case and width stay: a password that was set in full-width letters
//! is entered in them. Then each character must belong to the `FreeformClass` (RFC 8264,
//! section 4.3): letters, digits, punctuation, symbols and spaces of any script.
//!
//! This follows the derivation of RFC 8264, section 8, with the properties of the current
//! Unicode version; the crate `precis-core` has those of Unicode 6.3, without most emoji. Two
//! contextual rules differ. A joiner is also accepted where it shapes an emoji, and so are
//! variation selectors, because keyboards write them. The characters of the class CONTEXTO are
//! accepted everywhere: their rules prevent look-alikes among identifiers.

use icu_properties::{CodePointMapData, props::HangulSyllableType};
use unicode_normalization::{UnicodeNormalization as _, is_nfc, is_nfd};
use zeroize::Zeroizing;

use crate::model::unicode::{is_ignorable, is_undefined, shapes, with_neighbours};

/// Spaces and NFC. Accepts any text.
pub(super) fn normalise(raw: Zeroizing<String>) -> Zeroizing<String> {
    if is_nfc(&raw) && !raw.chars().any(|c| space(c) != c) {
        return raw;
    }
    collect(raw.chars().map(space).nfc(), raw.len())
}

/// The NFD of a text in normal form, if it differs. Systems that do not normalise hash it for a
/// user whose device writes it.
pub(super) fn decompose(normal: &str) -> Option<Zeroizing<String>> {
    (!is_nfd(normal)).then(|| collect(normal.nfd(), normal.len()))
}

/// A normal form of a text of so many bytes. The capacity is enough for the worst case of NFC and
/// of NFD (UAX #15), because growing would leave a copy behind.
fn collect(chars: impl Iterator<Item = char>, length: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(3 * length));
    for c in chars {
        text.push(c);
    }
    text
}

/// Whether all characters belong to the `FreeformClass`.
pub(super) fn is_freeform(text: &str) -> bool {
    with_neighbours(text).all(|(before, c, after)| {
        let is_hidden = is_ignorable(c) && !shapes(before, c, after);
        !is_hidden && !is_undefined(c) && !is_excepted(c)
    })
}

/// A space of the category Zs as U+0020. U+0085, U+2028 and U+2029 are not in it.
fn space(c: char) -> char {
    match c {
        '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => {
            ' '
        }
        c => c,
    }
}

/// Excluded by section 9.6 of RFC 8264, or an old Hangul jamo, which NFC did not compose
/// (section 9.9).
fn is_excepted(c: char) -> bool {
    let syllable = CodePointMapData::<HangulSyllableType>::new().get(c);
    let is_jamo = [
        HangulSyllableType::LeadingJamo,
        HangulSyllableType::VowelJamo,
        HangulSyllableType::TrailingJamo,
    ]
    .contains(&syllable);
    let is_listed = matches!(
        c,
        '\u{640}' | '\u{7FA}' | '\u{302E}' | '\u{302F}' | '\u{3031}'..='\u{3035}' | '\u{303B}'
    );
    is_jamo || is_listed
}

#[cfg(test)]
mod tests {
    use icu_properties::props::GeneralCategory;

    use super::*;

    fn normal(text: &str) -> String {
        normalise(Zeroizing::new(text.to_owned())).to_string()
    }

    #[test]
    fn every_space_is_the_same_space_and_nothing_else_is() {
        let category = CodePointMapData::<GeneralCategory>::new();
        for c in '\u{1}'..=char::MAX {
            let is_space = category.get(c) == GeneralCategory::SpaceSeparator;
            assert_eq!(space(c) == ' ', is_space, "{c:?}");
        }
        assert_eq!(
            normal("lake\u{A0}tulip\u{3000}harbour"),
            "lake tulip harbour"
        );
    }

    #[test]
    fn composed_and_decomposed_text_are_equal() {
        assert_eq!(normal("pa\u{308}sswo\u{308}rd"), "p\u{e4}ssw\u{f6}rd");
        // Hangul as a Mac writes it
        assert_eq!(normal("\u{1112}\u{1161}\u{11AB}"), "한");
        // Width and case stay.
        assert_eq!(normal("ＡＢＣａｂｃ１２３"), "ＡＢＣａｂｃ１２３");
    }

    #[test]
    fn normalising_never_outgrows_the_reserved_capacity() {
        // U+1D160 has the largest growth in UTF-8 under NFC: threefold.
        let raw = "\u{1d160}".repeat(24);
        let normal = normalise(Zeroizing::new(raw.clone()));
        assert_eq!(
            (normal.len(), normal.capacity()),
            (3 * raw.len(), 3 * raw.len())
        );
    }

    #[test]
    fn only_text_with_composed_characters_has_another_nfd() {
        let nfd = |text| decompose(text).map(|nfd| nfd.to_string());
        assert_eq!(
            nfd("p\u{e4}ss 한").unwrap(),
            "pa\u{308}ss \u{1112}\u{1161}\u{11AB}"
        );
        for same in ["", "hunter2", "пароль", "ＡＢＣ", "😀"] {
            assert_eq!(nfd(same), None);
        }
    }

    #[test]
    fn decomposing_never_outgrows_the_reserved_capacity() {
        let longest =
            ('\0'..=char::MAX).map(|c| c.nfd().map(char::len_utf8).sum::<usize>() / c.len_utf8());
        assert_eq!(longest.max(), Some(3));
        let text = "\u{390}".repeat(24);
        let nfd = decompose(&text).unwrap();
        assert_eq!(
            (nfd.len(), nfd.capacity()),
            (3 * text.len(), 3 * text.len())
        );
    }

    #[test]
    fn text_of_any_script_symbols_and_emoji_are_freeform() {
        for text in [
            "correct horse battery staple",
            "ªº½ﬁ①™€£¥§¶",
            "ＡＢＣａｂｃ１２３",
            "пароль",
            "かきくけこ・カタカナ",
            "l·l",
            "سلام ۱۲۳",
            "می\u{200C}خواهم",
            "हिन्दी",
            "한국어",
            "😀🤗🫠",
            "❤\u{FE0F} 👩🏽\u{200D}💻 1\u{FE0F}\u{20E3} 🇵🇹",
        ] {
            assert!(is_freeform(text), "{text}");
        }
    }

    #[test]
    fn controls_and_what_is_not_drawn_are_not_freeform() {
        for c in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1B}',
            '\u{7F}',
            '\u{85}',
            '\u{AD}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{202E}',
            '\u{2028}',
            '\u{2060}',
            '\u{FEFF}',
            '\u{FE0F}',
            '\u{3164}',
            '\u{1100}',
            '\u{640}',
            '\u{378}',
            '\u{E000}',
            '\u{FFFF}',
            '\u{E0041}',
        ] {
            assert!(!is_freeform(&format!("lake {c} harbour")), "{c:?}");
        }
    }
}
