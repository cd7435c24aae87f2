//! A registry's own words for an error, from a body that may be anything.

use oci_distribution::errors::OciErrorCode;
use reqwest::Response;

/// Bytes of an error's body that are read: some sentences in JSON.
const LONGEST: usize = 4096;
/// Letters of it that are shown.
const SHOWN: usize = 500;

/// What an answer says.
pub(super) struct Explained {
    /// The status, and the registry's words where it has some.
    pub(super) text: String,
    /// It says that it has no such repository, and not only no such tag.
    pub(super) no_repository: bool,
}

/// The envelope of the distribution specification. oci-client's own fails at a code that it does not know, and
/// registries have many.
#[derive(serde::Deserialize)]
struct Envelope {
    errors: Vec<Reason>,
}

#[derive(serde::Deserialize)]
struct Reason {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: String,
}

/// Reads a response that is no success.
pub(super) async fn explain(mut response: Response) -> Explained {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            bytes.clear();
            break;
        }
    }
    let reasons = serde_json::from_slice::<Envelope>(&bytes).map(|envelope| envelope.errors).unwrap_or_default();
    let words: Vec<String> = reasons
        .iter()
        .map(|reason| format!("{} {}", reason.code.as_str().unwrap_or_default(), reason.message).trim().to_owned())
        .collect();
    let words = clean(&words.join("; "));
    let no_repository = reasons
        .into_iter()
        .any(|reason| serde_json::from_value(reason.code).is_ok_and(|code: OciErrorCode| code == OciErrorCode::NameUnknown));
    let text = if words.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {words}") };
    Explained { text, no_repository }
}

/// Foreign words as they may stand in a line of ours.
pub(super) fn clean(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SHOWN).collect()
}
