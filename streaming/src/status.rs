//! How a command's outcome is told to its client: as a `Status` of the Kubernetes API since v4, as a text before.

use bytes::Bytes;
use serde::Serialize;

use crate::sessions::Outcome;

/// What the error stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// v4 and v5: always a JSON object.
    Json,
    /// v1 to v3: a text, and none for a success.
    Text,
}

/// The members of `meta/v1.Status` that clients look at.
#[derive(Serialize)]
struct Status<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

/// The bytes for the error stream, if any.
pub(crate) fn write(style: Style, outcome: &Outcome) -> Option<Bytes> {
    let none = Status { status: "Failure", message: None, reason: None, details: None, code: None };
    let text;
    let status = match outcome {
        Outcome::Success | Outcome::Exit(0) => Status { status: "Success", ..none },
        Outcome::Exit(code) => {
            text = format!("command terminated with non-zero exit code: {code}");
            let causes = [Cause { reason: "ExitCode", message: code.to_string() }];
            Status { message: Some(&text), reason: Some("NonZeroExitCode"), details: Some(Details { causes }), ..none }
        }
        Outcome::Failure { message } => {
            text = format!("Internal error occurred: {message}");
            Status { message: Some(&text), reason: Some("InternalError"), code: Some(500), ..none }
        }
    };
    match style {
        Style::Json => serde_json::to_vec(&status).ok().map(Bytes::from),
        Style::Text => status.message.map(|text| Bytes::copy_from_slice(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_what_client_go_reads() {
        let cases = [
            (Outcome::Success, r#"{"status":"Success"}"#, None),
            (Outcome::Exit(0), r#"{"status":"Success"}"#, None),
            (
                Outcome::Exit(7),
                r#"{"status":"Failure","message":"command terminated with non-zero exit code: 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
                Some("command terminated with non-zero exit code: 7"),
            ),
            (
                Outcome::Failure { message: "no such \"file\"".into() },
                r#"{"status":"Failure","message":"Internal error occurred: no such \"file\"","reason":"InternalError","code":500}"#,
                Some("Internal error occurred: no such \"file\""),
            ),
        ];
        for (outcome, json, text) in cases {
            assert_eq!(write(Style::Json, &outcome).unwrap(), json);
            assert_eq!(write(Style::Text, &outcome), text.map(Bytes::from));
        }
    }
}
