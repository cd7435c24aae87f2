//! What a guest may do through wasi:config, wasi:keyvalue, wasi:logging and wasi:tls, as commands of words.
//!
//! - `config KEY` answers with its value or `-`; `config-all` with `KEY=VALUE`, one a line.
//! - `kv BUCKET get KEY`, `set KEY VALUE`, `delete KEY`, `exists KEY`, `keys` (all pages, sorted, with commas), `count KEY DELTA`,
//!   `counts KEY TIMES` (adds 1 so many times), `cas KEY VALUE` (puts it there if nobody else has written since this looked), `race KEY
//!   VALUE` (as `cas`, but somebody else does; then it tries again), `many KEY=VALUE ...` (sets, reads and deletes them at once). `kv1`
//!   does the first of them by the first draft.
//! - `log LEVEL CONTEXT MESSAGE`.
//! - `tls NAME ADDRESS PORT TEXT`: sends a text over TLS to an IPv4 address, where a server of that name answers.
//! - `sleep SECONDS`.

mod keyvalue;
mod tls;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package tests:interfaces;
            world guest {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
                import wasi:logging/logging@0.1.0-draft;
                import wasi:tls/types@0.2.0-draft;
            }
        ",
        path: [
            "../../../wasm-host/wit/config",
            "../../../wasm-host/wit/keyvalue",
            "../../../wasm-host/wit/keyvalue-draft",
            "wit/logging",
            "wit/io",
            "wit/tls",
        ],
        features: ["tls"],
        with: {
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
        },
        generate_all,
    });
}

use bindings::wasi::config::store as config;
use bindings::wasi::logging::logging::{self, Level};

/// Does what the words say.
pub fn run(words: &[&str]) -> Result<String, String> {
    match words {
        ["config", key] => config::get(key).map(|value| value.unwrap_or("-".to_owned())).map_err(|error| format!("{error:?}")),
        ["config-all"] => {
            let all = config::get_all().map_err(|error| format!("{error:?}"))?;
            let lines: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            Ok(lines.join("\n"))
        }
        ["kv", bucket, words @ ..] => keyvalue::run(bucket, words),
        ["kv1", bucket, words @ ..] => keyvalue::run_first_draft(bucket, words),
        ["log", level, context, message] => {
            let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical];
            let level = levels.into_iter().find(|known| format!("{known:?}").to_lowercase() == format!("level::{level}"));
            logging::log(level.ok_or("no such level")?, context, message);
            Ok("logged".to_owned())
        }
        ["tls", name, address, port, text] => tls::exchange(name, address, port, text),
        ["sleep", seconds] => {
            std::thread::sleep(std::time::Duration::from_secs_f64(seconds.parse().map_err(|_| "no number")?));
            Ok("slept".to_owned())
        }
        other => Err(format!("no command: {other:?}")),
    }
}
