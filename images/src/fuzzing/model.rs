//! Layers in memory: what an archive of files, directories, whiteouts and opaque marks makes, and what several of them
//! show when one lies upon the other. Written from the OCI layer specification, without a look at how files.rs does it.

use std::collections::BTreeMap;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    File,
    Directory,
    Whiteout,
    Opaque,
}

#[derive(Debug)]
pub(super) enum Node {
    File,
    Whiteout,
    Directory(Tree),
}

/// A directory of one layer.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) opaque: bool,
    names: BTreeMap<String, Node>,
}

impl Tree {
    /// Does one entry; false where it cannot be done, since a file is where a directory must be.
    pub(super) fn say(&mut self, say: Say, path: &[&str]) -> bool {
        match (path, say) {
            ([], Say::Opaque) => {
                self.opaque = true;
                true
            }
            ([], Say::Directory) => true,
            ([], _) => false,
            ([name], Say::File) => {
                self.names.insert((*name).to_owned(), Node::File);
                true
            }
            ([name], Say::Whiteout) => {
                match self.names.get_mut(*name) {
                    None => drop(self.names.insert((*name).to_owned(), Node::Whiteout)),
                    Some(Node::Directory(inner)) => inner.opaque = true,
                    Some(_) => {}
                }
                true
            }
            ([name, rest @ ..], say) => {
                let replaces = say == Say::Directory && rest.is_empty();
                let node = self.names.entry((*name).to_owned()).or_insert_with(|| Node::Directory(Tree::default()));
                match node {
                    Node::Directory(_) => {}
                    Node::Whiteout => *node = Node::Directory(Tree { opaque: true, ..Tree::default() }),
                    Node::File if replaces => *node = Node::Directory(Tree::default()),
                    Node::File => return false,
                }
                match node {
                    Node::Directory(inner) => inner.say(say, rest),
                    _ => false,
                }
            }
        }
    }
}

/// What is seen: the number of the layer that a file is of, counted from the lowest.
#[derive(Debug)]
pub(super) enum Seen {
    File(usize),
    Directory(BTreeMap<String, Seen>),
}

/// Lays `layer` upon what is seen.
pub(super) fn lay(seen: &mut BTreeMap<String, Seen>, layer: &Tree, number: usize) {
    if layer.opaque {
        seen.clear();
    }
    for (name, node) in &layer.names {
        match node {
            Node::Whiteout => drop(seen.remove(name)),
            Node::File => drop(seen.insert(name.clone(), Seen::File(number))),
            Node::Directory(inner) => {
                if !matches!(seen.get(name), Some(Seen::Directory(_))) {
                    seen.insert(name.clone(), Seen::Directory(BTreeMap::new()));
                }
                if let Some(Seen::Directory(below)) = seen.get_mut(name) {
                    lay(below, inner, number);
                }
            }
        }
    }
}

/// What is at a path.
pub(super) fn at<'a>(seen: &'a BTreeMap<String, Seen>, path: &[&str]) -> Option<&'a Seen> {
    match path {
        [] => None,
        [name] => seen.get(*name),
        [name, rest @ ..] => match seen.get(*name)? {
            Seen::Directory(below) => at(below, rest),
            Seen::File(_) => None,
        },
    }
}
