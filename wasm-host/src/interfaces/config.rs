//! wasi:config/store: the container's environment, over the files of directories, which are where ConfigMaps are mounted.
//!
//! Files are read at each call, so a guest sees a ConfigMap that has changed as soon as the kubelet has written it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use wasmtime::component::Linker;

use self::bindings::wasi::config::store;
use super::{HasView, View, files, variable, view};
use crate::guest::ComponentState;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/config",
        world: "wasi:config/imports",
        imports: { default: async | trappable },
    });
}

/// Names the directories, with colons between them.
const DIRECTORIES: &str = "CRI_WASM_CONFIG_DIRS";

/// Where they are unless somebody says otherwise.
const DEFAULT_DIRECTORY: &str = "/etc/config";

/// Variables of this prefix are for the runtime and no configuration of the guest's.
const OWN: &str = "CRI_WASM_";

/// Largest value from a file, in bytes: what Kubernetes lets a ConfigMap have.
const VALUE_BYTES: usize = 1 << 20;

/// Bytes of keys and values that are told at once.
const ALL_BYTES: usize = 8 << 20;

/// Most directories.
const MOST_DIRECTORIES: usize = 64;

/// Where values come from.
#[derive(Clone)]
pub(super) struct Config {
    /// The container's own, without what is for the runtime. The first of a name counts.
    environment: BTreeMap<String, String>,
    /// The first that has a key counts.
    directories: Vec<PathBuf>,
}

impl Config {
    pub(super) fn of(env: &[String]) -> Self {
        let mut environment = BTreeMap::new();
        for (name, value) in env.iter().filter_map(|entry| entry.split_once('=')).filter(|(name, _)| !name.starts_with(OWN)) {
            environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let named = variable(env, DIRECTORIES).unwrap_or(DEFAULT_DIRECTORY).split(':');
        // A relative path starts where a guest without a working directory is, which is the root.
        let directories = named.filter(|path| !path.is_empty()).take(MOST_DIRECTORIES);
        Config { environment, directories: directories.map(|path| PathBuf::from("/").join(path)).collect() }
    }

    fn get(&self, key: &str) -> io::Result<Option<String>> {
        if let Some(value) = self.environment.get(key) {
            return Ok(Some(value.clone()));
        }
        // What is no name of a file, or a hidden one, is in no directory.
        if key.is_empty() || key.starts_with('.') || key.contains(['/', '\0']) {
            return Ok(None);
        }
        for path in &self.directories {
            let Some(directory) = files::directory(path).map_err(at(path))? else { continue };
            if let Some(bytes) = files::read(directory.as_fd(), key, VALUE_BYTES).map_err(at(&path.join(key)))? {
                let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not text"));
                return text.map(Some).map_err(at(&path.join(key)));
            }
        }
        Ok(None)
    }

    /// Files that are no text are left out: nobody could be given one by its key either.
    fn get_all(&self) -> io::Result<Vec<(String, String)>> {
        let mut all = BTreeMap::new();
        let mut bytes = 0;
        for path in &self.directories {
            let Some(directory) = files::directory(path).map_err(at(path))? else { continue };
            for name in files::names(directory.as_fd()).map_err(at(path))? {
                let name = name.map_err(at(path))?;
                if all.contains_key(&name) || self.environment.contains_key(&name) {
                    continue;
                }
                let value = files::read(directory.as_fd(), &name, VALUE_BYTES).map_err(at(&path.join(&name)))?;
                let Some(value) = value.and_then(|value| String::from_utf8(value).ok()) else { continue };
                bytes += name.len() + value.len();
                if bytes > ALL_BYTES {
                    return Err(at(path)(io::Error::other(format!("there are more than {ALL_BYTES} bytes of configuration"))));
                }
                all.insert(name, value);
            }
        }
        all.extend(self.environment.clone());
        Ok(all.into_iter().collect())
    }
}

/// Says where an error is from.
fn at(path: &std::path::Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::other(format!("{path}: {error}"))
}

impl View<'_> {
    async fn read<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&Config) -> io::Result<T> + Send + 'static,
    ) -> wasmtime::Result<Result<T, store::Error>> {
        let shared = self.interfaces.shared()?;
        // A volume that does not answer stops this guest alone.
        let value = tokio::task::spawn_blocking(move || read(&shared.config)).await?;
        Ok(value.map_err(|error| store::Error::Io(error.to_string())))
    }
}

impl store::Host for View<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        self.read(move |config| config.get(&key)).await
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        self.read(Config::get_all).await
    }
}

pub(super) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasView>(linker, view)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(env: &[&str]) -> Config {
        Config::of(&env.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn directories_are_named_by_the_environment() {
        assert_eq!(config(&[]).directories, [PathBuf::from("/etc/config")]);
        assert_eq!(config(&["CRI_WASM_CONFIG_DIRS=/a::b"]).directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn the_environment_goes_before_files_and_the_first_directory_before_the_second() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for (directory, key, value) in
            [("a", "one", "a1"), ("a", "two", "a2"), ("b", "two", "b2"), ("b", "three", "b3"), ("b", "four", "b4")]
        {
            fs::create_dir_all(at(directory)).unwrap();
            fs::write(at(directory).join(key), value).unwrap();
        }
        fs::write(at("a/.hidden"), "h").unwrap();
        fs::write(at("a/binary"), [0xff, 0xfe]).unwrap();
        let directories = format!("CRI_WASM_CONFIG_DIRS={}:{}:/nonexistent", at("a").display(), at("b").display());
        let config = config(&["one=e1", "one=again", &directories, "five=a=b"]);
        let get = |key: &str| config.get(key).unwrap();
        assert_eq!(get("one").as_deref(), Some("e1"));
        assert_eq!(get("two").as_deref(), Some("a2"));
        assert_eq!(get("three").as_deref(), Some("b3"));
        for key in ["", ".hidden", "..", "../b/three", "CRI_WASM_CONFIG_DIRS", "nothing", "a\0b"] {
            assert_eq!(get(key), None, "{key:?}");
        }
        let refused = config.get("binary").unwrap_err().to_string();
        assert!(refused.ends_with("/a/binary: it is not text"), "{refused}");
        let all = [("five", "a=b"), ("four", "b4"), ("one", "e1"), ("three", "b3"), ("two", "a2")];
        assert_eq!(config.get_all().unwrap(), all.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_value_that_is_too_large_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("large"), vec![b'a'; VALUE_BYTES + 1]).unwrap();
        let config = config(&[&format!("CRI_WASM_CONFIG_DIRS={}", place.path().display())]);
        for refused in [config.get("large").map(drop), config.get_all().map(drop)] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.ends_with("/large: it is larger than 1048576 bytes"), "{refused}");
        }
    }
}
