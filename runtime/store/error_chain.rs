//! Errors as text. A cause is never repeated in the text of what it caused, so wherever only a string fits (a log field, a gRPC
//! status) the whole chain is put together.

use std::error::Error;

/// The texts of an error and of its causes, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
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
}
