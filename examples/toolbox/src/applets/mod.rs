//! The tools. Each is an `async fn` of its context; this is their table.

pub mod basic;
pub mod format;
pub mod links;
pub mod signals;
pub mod test;

use crate::applet;
use crate::context::Applet;
use crate::shell;

static TABLES: &[&[Applet]] = &[
    &[applet!("sh", shell::shell), applet!("ash", shell::shell), applet!("bash", shell::shell), applet!("dash", shell::shell)],
    basic::APPLETS,
    links::APPLETS,
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
