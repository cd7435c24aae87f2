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
    /// A script: there is no interpreter to start it.
    #[error("exec: {0:?}: is a script, and this runtime runs WebAssembly: name its interpreter as the command")]
    Script(String),
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
    /// It begins with `#!`.
    Script,
    /// Anything else.
    Other,
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

/// Finds the wasm file that argv[0] names.
///
/// With a slash in it the name is a path, from `working_dir` on if it is relative; without one it is looked up in `search_path`,
/// the PATH of the container's environment.
pub fn find(tree: &impl Tree, name: &str, working_dir: &str, search_path: &str) -> Result<Module, EntrypointError> {
    if name.is_empty() {
        return Err(EntrypointError::NoCommand);
    }
    if name.contains('/') {
        let path = absolute(working_dir, name);
        return match look(tree, name, &path)? {
            Node::Missing => Err(EntrypointError::NotFound(name.to_owned())),
            node => wasm(name, node),
        };
    }
    for directory in search_path.split(':') {
        // An empty entry is the working directory, as in a shell.
        let path = absolute(working_dir, &format!("{}/{name}", if directory.is_empty() { "." } else { directory }));
        match look(tree, name, &path)? {
            // A shell goes on behind what is no program at all.
            Node::Missing | Node::Directory => {}
            node => return wasm(name, node),
        }
    }
    Err(EntrypointError::NotInPath(name.to_owned()))
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
        Node::Script => Err(EntrypointError::Script(name())),
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
            ("/bin/script", Node::Script),
            ("/usr/bin/ls/not-me", Node::Other),
            ("/readme", Node::Other),
        ])
    }

    #[test]
    fn a_command_is_found_by_path_or_in_the_search_path() {
        for (name, wanted) in
            [("/app/main.wasm", "/app/main.wasm"), ("./main.wasm", "/app/main.wasm"), ("../bin/ls", "/bin/ls"), ("ls", "/bin/ls")]
        {
            assert_eq!(find(&image(), name, "/app", PATH).unwrap().path, Path::new(wanted), "{name}");
        }
        assert_eq!(find(&image(), "main.wasm", "/app", ":/bin").unwrap().path, Path::new("/app/main.wasm"));
    }

    #[test]
    fn what_cannot_run_is_said_in_the_words_of_a_shell() {
        let said = |name: &str| find(&image(), name, "/", PATH).unwrap_err().to_string();
        assert_eq!(said("nosuch"), "exec: \"nosuch\": executable file not found in $PATH");
        assert_eq!(said("/nosuch"), "exec: \"/nosuch\": no such file or directory");
        assert_eq!(said("/app"), "exec: \"/app\": is a directory");
        assert_eq!(said("/readme"), "exec: \"/readme\": is no WebAssembly binary");
        assert!(said("native").contains("RuntimeClass"));
        assert!(said("app.cwasm").contains("ship the .wasm"));
        assert!(said("script").contains("interpreter"));
        assert_eq!(find(&image(), "", "/", PATH), Err(EntrypointError::NoCommand));
    }
}
