//! Which wasm file of an image runs: argv[0], looked up as a shell would.
//!
//! What can be found out is found out when the container is created, so that the pod's status says it in the words that people
//! know, and says what to do where a native program was asked of a wasm runtime.

use std::path::{Path, PathBuf};

use super::mounts::clean;

/// Why no wasm file can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntrypointError {
    /// Neither the pod nor the image says what to run.
    #[error("no command: the image names no entrypoint and the container no command")]
    NoCommand,
    /// An artifact of several wasm files, which names none of them as its own.
    #[error("no command: the image holds several programs; give the container one of them as its command: {0}")]
    Several(String),
    /// As a shell says it.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// As a shell says it.
    #[error("exec: {0:?}: no such file or directory")]
    NotFound(String),
    /// As a shell says it.
    #[error("exec: {0:?}: is a directory")]
    Directory(String),
    /// It is for another kind of runtime.
    #[error(
        "exec: {0:?}: is a native Linux program, and this runtime runs WebAssembly: give the pod a RuntimeClass whose handler runs \
         native containers, or build the image for wasm"
    )]
    Native(String),
    /// It would run with the rights of the runtime's own code.
    #[error("exec: {0:?}: is precompiled code, which is not run from images: ship the .wasm")]
    Precompiled(String),
    /// A script whose first line names no interpreter that could be started.
    #[error("exec: {name:?}: is a script, and {reason}")]
    Script {
        /// argv[0].
        name: String,
        /// Why it cannot be interpreted.
        reason: String,
    },
    /// The user may neither read nor execute it, or it is no file at all, such as the device that hides a masked path.
    #[error("exec: {0:?}: permission denied")]
    Denied(String),
    /// Anything else.
    #[error("exec: {0:?}: is no WebAssembly binary")]
    NotWasm(String),
    /// The image cannot be read.
    #[error("exec: {name:?}: {reason}")]
    Unreadable {
        /// argv[0].
        name: String,
        /// Why.
        reason: String,
    },
}

/// What a path in an image leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Nothing has this name.
    Missing,
    /// A directory.
    Directory,
    /// A module or component.
    Wasm(Module),
    /// A native Linux program.
    Native,
    /// Code that some engine has compiled from wasm.
    Precompiled,
    /// It begins with `#!`; its first line, at most [`SCRIPT_LINE`] bytes of it.
    Script(Vec<u8>),
    /// It may not be run.
    Denied,
    /// Anything else.
    Other,
}

/// How much of a script's first line counts, as in Linux (BINPRM_BUF_SIZE).
pub const SCRIPT_LINE: usize = 256;

/// How many interpreters may be scripts themselves, as in Linux.
const MAX_INTERPRETERS: usize = 4;

/// What is started for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The wasm file.
    pub module: Module,
    /// argv. Not what was asked for where that is a script: its interpreter stands before it then.
    pub args: Vec<String>,
}

/// A wasm file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// In the image, without links.
    pub path: PathBuf,
    /// `sha256:…` of the file.
    pub digest: String,
}

/// The files of an image, as a container sees them before anything is mounted.
pub trait Tree {
    /// Follows links inside the image. The error is a clause about a damaged image or a failing disk.
    fn look(&self, path: &Path) -> Result<Node, String>;
}

/// Finds the wasm file that `args[0]` names, by way of interpreters where that is a script.
///
/// With a slash in it the name is a path, from `working_dir` on if it is relative; without one it is looked up in `search_path`,
/// the PATH of the container's environment.
pub fn find(tree: &impl Tree, args: &[String], working_dir: &str, search_path: &str) -> Result<Program, EntrypointError> {
    let asked = args.first().map_or("", String::as_str);
    let (mut path, mut node) = locate(tree, asked, working_dir, search_path)?;
    let mut args = args.to_vec();
    for _ in 0..=MAX_INTERPRETERS {
        let Node::Script(line) = node else { return Ok(Program { module: wasm(asked, node)?, args }) };
        let refused = |reason: String| EntrypointError::Script { name: asked.to_owned(), reason };
        let (interpreter, argument) =
            interpreter(&line).ok_or_else(|| refused("its first line names no interpreter".to_owned()))?;
        // As the kernel: the interpreter, at most one argument, and the script's path in the place of its name.
        let rest = args.split_off(1.min(args.len()));
        args =
            [interpreter.clone()].into_iter().chain(argument).chain([path.to_string_lossy().into_owned()]).chain(rest).collect();
        path = absolute(working_dir, &interpreter);
        node = look(tree, asked, &path)?;
        if !matches!(node, Node::Wasm(_) | Node::Script(_)) {
            let reason = wasm(&interpreter, node).err().map_or_else(String::new, |error| error.to_string());
            return Err(refused(format!("its interpreter cannot be run: {reason}")));
        }
    }
    Err(EntrypointError::Script { name: asked.to_owned(), reason: "its interpreters are scripts of scripts".to_owned() })
}

/// The path that a name stands for, and what is there.
fn locate(tree: &impl Tree, name: &str, working_dir: &str, search_path: &str) -> Result<(PathBuf, Node), EntrypointError> {
    if name.is_empty() {
        return Err(EntrypointError::NoCommand);
    }
    if name.contains('/') {
        let path = absolute(working_dir, name);
        let node = look(tree, name, &path)?;
        return Ok((path, node));
    }
    for directory in search_path.split(':') {
        // An empty entry is the working directory, as in a shell.
        let path = absolute(working_dir, &format!("{}/{name}", if directory.is_empty() { "." } else { directory }));
        match look(tree, name, &path)? {
            // A shell goes on behind what is no program at all.
            Node::Missing | Node::Directory => {}
            node => return Ok((path, node)),
        }
    }
    Err(EntrypointError::NotInPath(name.to_owned()))
}

/// The interpreter that a script's first line names, and the one argument that it may have.
fn interpreter(line: &[u8]) -> Option<(String, Option<String>)> {
    let line = line.strip_prefix(b"#!")?;
    let line = std::str::from_utf8(line.split(|&byte| byte == b'\n').next()?).ok()?.trim_matches([' ', '\t', '\r']);
    let (path, argument) = line.split_once([' ', '\t']).map_or((line, ""), |(path, rest)| (path, rest.trim_start()));
    (!path.is_empty()).then(|| (path.to_owned(), Some(argument.to_owned()).filter(|argument| !argument.is_empty())))
}

fn look(tree: &impl Tree, name: &str, path: &Path) -> Result<Node, EntrypointError> {
    tree.look(path).map_err(|reason| EntrypointError::Unreadable { name: name.to_owned(), reason })
}

fn wasm(name: &str, node: Node) -> Result<Module, EntrypointError> {
    let name = || name.to_owned();
    match node {
        Node::Wasm(module) => Ok(module),
        Node::Native => Err(EntrypointError::Native(name())),
        Node::Precompiled => Err(EntrypointError::Precompiled(name())),
        Node::Script(_) => Err(EntrypointError::Script { name: name(), reason: "nothing says how to run it".to_owned() }),
        Node::Denied => Err(EntrypointError::Denied(name())),
        Node::Directory => Err(EntrypointError::Directory(name())),
        Node::Missing => Err(EntrypointError::NotFound(name())),
        Node::Other => Err(EntrypointError::NotWasm(name())),
    }
}

fn absolute(working_dir: &str, path: &str) -> PathBuf {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{working_dir}/{path}") };
    PathBuf::from(clean(&joined).unwrap_or(joined))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// An image of some files.
    #[derive(Default)]
    pub(crate) struct Files(BTreeMap<PathBuf, Node>);

    impl Files {
        pub(crate) fn of(files: &[(&str, Node)]) -> Self {
            Self(files.iter().map(|(path, node)| (PathBuf::from(path), node.clone())).collect())
        }
    }

    /// A wasm file as [`Files`] has it.
    pub(crate) fn module(path: &str) -> Node {
        Node::Wasm(Module { path: PathBuf::from(path), digest: format!("digest of {path}") })
    }

    fn script(text: &str) -> Node {
        Node::Script(text.as_bytes().to_vec())
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    impl Tree for Files {
        fn look(&self, path: &Path) -> Result<Node, String> {
            let inside = || self.0.keys().any(|file| file.starts_with(path));
            Ok(self.0.get(path).cloned().unwrap_or_else(|| if inside() { Node::Directory } else { Node::Missing }))
        }
    }

    const PATH: &str = "/usr/bin:/bin";

    fn image() -> Files {
        Files::of(&[
            ("/app/main.wasm", module("/app/main.wasm")),
            ("/bin/ls", module("/bin/ls")),
            ("/bin/native", Node::Native),
            ("/bin/app.cwasm", Node::Precompiled),
            ("/bin/script", script("#!/bin/ls -a  b \nrest")),
            ("/bin/nested", script("#! /bin/script")),
            ("/bin/loop", script("#!/bin/loop")),
            ("/bin/perl", script("#!/usr/bin/perl\n")),
            ("/bin/empty", script("#!")),
            ("/bin/masked", Node::Denied),
            ("/usr/bin/ls/not-me", Node::Other),
            ("/readme", Node::Other),
        ])
    }

    #[test]
    fn a_command_is_found_by_path_or_in_the_search_path() {
        for (name, wanted) in
            [("/app/main.wasm", "/app/main.wasm"), ("./main.wasm", "/app/main.wasm"), ("../bin/ls", "/bin/ls"), ("ls", "/bin/ls")]
        {
            assert_eq!(found(name, "/app", PATH).module.path, Path::new(wanted), "{name}");
        }
        assert_eq!(found("main.wasm", "/app", ":/bin").module.path, Path::new("/app/main.wasm"));
    }

    fn found(command: &str, working_dir: &str, path: &str) -> Program {
        find(&image(), &words(command), working_dir, path).unwrap()
    }

    #[test]
    fn argv_stays_as_it_was_given() {
        assert_eq!(found("ls -l /", "/", PATH).args, ["ls", "-l", "/"]);
    }

    #[test]
    fn a_script_is_run_by_its_interpreter() {
        let program = found("script x", "/", PATH);
        assert_eq!(program.module.path, Path::new("/bin/ls"));
        assert_eq!(program.args, ["/bin/ls", "-a  b", "/bin/script", "x"]);
        let program = found("nested", "/", PATH);
        assert_eq!(program.args, ["/bin/ls", "-a  b", "/bin/script", "/bin/nested"]);
    }

    #[test]
    fn what_cannot_run_is_said_in_the_words_of_a_shell() {
        let said = |name: &str| find(&image(), &words(name), "/", PATH).unwrap_err().to_string();
        assert_eq!(said("nosuch"), "exec: \"nosuch\": executable file not found in $PATH");
        assert_eq!(said("/nosuch"), "exec: \"/nosuch\": no such file or directory");
        assert_eq!(said("/app"), "exec: \"/app\": is a directory");
        assert_eq!(said("/readme"), "exec: \"/readme\": is no WebAssembly binary");
        assert!(said("native").contains("RuntimeClass"));
        assert!(said("app.cwasm").contains("ship the .wasm"));
        assert_eq!(said("masked"), "exec: \"masked\": permission denied");
        assert!(said("perl").ends_with("cannot be run: exec: \"/usr/bin/perl\": no such file or directory"), "{}", said("perl"));
        assert!(said("empty").ends_with("names no interpreter"));
        assert!(said("loop").ends_with("scripts of scripts"));
        assert_eq!(find(&image(), &[], "/", PATH), Err(EntrypointError::NoCommand));
        assert_eq!(find(&image(), &words(""), "/", PATH), Err(EntrypointError::NoCommand));
    }
}
