//! The toolbox: a shell and the everyday tools in one WebAssembly module, for looking into pods of WebAssembly guests.
//!
//! The name by which it is called picks the applet; `toolbox APPLET ...` and `toolbox --list` work too.

mod applets;
mod context;
mod dispatch;
mod host;
mod options;
mod regex;
mod runtime;
mod shell;
mod sys;
mod text;

use std::collections::BTreeMap;
use std::rc::Rc;

use context::Fds;
use dispatch::Surroundings;
use runtime::file::OpenFile;

fn main() {
    let status = runtime::executor::run(start()).unwrap_or(1);
    std::process::exit(status.into());
}

async fn start() -> u8 {
    let mut args: Vec<String> = std::env::args_os().map(|argument| text::decode(argument.as_encoded_bytes())).collect();
    let mut name = if args.is_empty() { "toolbox".to_string() } else { args.remove(0) };
    let env: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| (text::decode(name.as_encoded_bytes()), text::decode(value.as_encoded_bytes())))
        .collect();
    let fds: Fds = [0, 1, 2].map(|number: u32| (number, OpenFile::host(sys::inherited(number as _)))).into_iter().collect();
    let stdout = fds.get(&1).cloned();
    let say = async |words: &str| {
        if let Some(handle) = &stdout {
            let _ = handle.write(words.as_bytes()).await;
        }
    };
    let base = text::base_name(&name).trim_start_matches('-').to_string();
    let base = base.strip_suffix(".wasm").unwrap_or(&base).to_string();
    let applet = match applets::find(&base) {
        Some(applet) => Some(applet),
        None => match args.first().map(String::as_str) {
            Some("--list") => {
                let mut list: Vec<&str> = applets::all().map(|applet| applet.name).collect();
                list.sort_unstable();
                say(&format!("{}\n", list.join("\n"))).await;
                return 0;
            }
            None | Some("--help") => {
                say("toolbox: a shell and everyday tools in one WebAssembly module\n\nUsage: toolbox APPLET [ARGUMENT]...\n       toolbox --list\n").await;
                return 0;
            }
            Some(_) => {
                name = args.remove(0);
                applets::find(text::base_name(&name))
            }
        },
    };
    let Some(applet) = applet else {
        if let Some(handle) = fds.get(&2) {
            let _ = handle.write(format!("{name}: applet not found\n").as_bytes()).await;
        }
        return 127;
    };
    let cwd = env.get("PWD").filter(|path| sys::status(path, true).is_ok_and(|status| status.is_directory()));
    let cwd = cwd.map_or_else(|| "/".to_string(), |path| context::normal(path));
    let path = env.get("PATH").cloned();
    let surroundings = Surroundings { env: Rc::new(env), cwd, fds, terminal: None, depth: 0, path };
    dispatch::run_applet(applet, &name, args, surroundings).await
}
