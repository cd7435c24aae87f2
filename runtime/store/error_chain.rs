//! Errors as text. A cause is never repeated in the text of what it caused, so wherever only a string fits (a log field, a gRPC
//! status) the whole chain is put together.

use std::error::Error;

/// The most bytes of an error's text: gRPC sends it in a header, and headers of more than some 8 KiB are refused by clients.
const LONGEST: usize = 4096;

/// The texts of an error and of its causes, outermost first.
///
/// What clients sent stands in such texts, and some send a megabyte: a longer text is cut.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_in_their_order_and_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("disk on fire"))), "cannot open the store: disk on fire");
        assert_eq!(chain(&std::io::Error::other("alone")), "alone");
    }

    #[test]
    fn a_text_without_end_is_cut_between_characters() {
        let text = chain(&std::io::Error::other("é".repeat(100_000)));
        assert!(text.len() <= LONGEST + '…'.len_utf8() && text.ends_with("é…"), "{} bytes", text.len());
    }
}
