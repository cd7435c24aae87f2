//! The tools. Each is an `async fn` of its context; this is their table.

pub mod basic;
pub mod columns;
pub mod copy;
pub mod date;
pub mod files;
pub mod find;
pub mod format;
pub mod grep;
pub mod links;
pub mod ls;
pub mod numbers;
pub mod sed;
pub mod signals;
pub mod sort;
pub mod stream;
pub mod test;

use crate::applet;
use crate::context::Applet;
use crate::shell;

static TABLES: &[&[Applet]] = &[
    &[applet!("sh", shell::shell), applet!("ash", shell::shell), applet!("bash", shell::shell), applet!("dash", shell::shell)],
    basic::APPLETS,
    columns::APPLETS,
    copy::APPLETS,
    date::APPLETS,
    files::APPLETS,
    find::APPLETS,
    grep::APPLETS,
    links::APPLETS,
    ls::APPLETS,
    sed::APPLETS,
    sort::APPLETS,
    stream::APPLETS,
    test::APPLETS,
];

/// All applets.
pub fn all() -> impl Iterator<Item = &'static Applet> {
    TABLES.iter().copied().flatten()
}

/// The applet of a name.
pub fn find(name: &str) -> Option<&'static Applet> {
    all().find(|applet| applet.name == name)
}
