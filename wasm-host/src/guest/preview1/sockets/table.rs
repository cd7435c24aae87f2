//! Descriptors of a guest that has sockets: its numbers, and what stands behind each.
//!
//! wasmtime numbers its descriptors by itself, knows no sockets, and has its directory as number 3, where programs look for the
//! first socket. So the guest has numbers of its own here: a new descriptor gets the lowest that is free, as in POSIX.

use std::collections::BTreeSet;

use super::socket::Socket;
use crate::guest::errno::EBADF;

/// What a descriptor stands for.
pub(in crate::guest::preview1) enum Entry {
    /// A stream, file or directory, by wasmtime's number.
    File(i32),
    /// A socket.
    Socket(Socket),
}

/// The open descriptors. As many as the process may have open, since each of them is one of the process.
pub(in crate::guest::preview1) struct Table {
    entries: Vec<Option<Entry>>,
    free: BTreeSet<i32>,
}

impl Table {
    /// Three streams, the sockets, the root directory.
    pub(super) fn new(sockets: impl IntoIterator<Item = Socket>) -> Self {
        let mut table = Table { entries: Vec::new(), free: BTreeSet::new() };
        let streams = (0..3).map(Entry::File);
        let all = streams.chain(sockets.into_iter().map(Entry::Socket)).chain([Entry::File(3)]);
        table.entries = all.map(Some).collect();
        table
    }

    fn index(number: i32) -> Option<usize> {
        usize::try_from(number).ok()
    }

    pub(super) fn get(&self, number: i32) -> Option<&Entry> {
        self.entries.get(Self::index(number)?)?.as_ref()
    }

    pub(super) fn socket(&mut self, number: i32) -> Option<&mut Socket> {
        match self.entries.get_mut(Self::index(number)?)?.as_mut()? {
            Entry::Socket(socket) => Some(socket),
            Entry::File(_) => None,
        }
    }

    /// wasmtime's number of what is no socket.
    ///
    /// # Errors
    /// `EBADF`, and `socket` if it is one.
    pub(in crate::guest::preview1) fn file(&self, number: i32, socket: i32) -> Result<i32, i32> {
        match self.get(number) {
            Some(Entry::File(file)) => Ok(*file),
            Some(Entry::Socket(_)) => Err(socket),
            None => Err(EBADF),
        }
    }

    /// A number for `entry`.
    pub(in crate::guest::preview1) fn insert(&mut self, entry: Entry) -> i32 {
        let number = self.free.pop_first().or_else(|| i32::try_from(self.entries.len()).ok()).unwrap_or(i32::MAX);
        match Self::index(number).and_then(|index| self.entries.get_mut(index)) {
            Some(place) => *place = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        number
    }

    /// Gives the number up.
    pub(super) fn remove(&mut self, number: i32) -> Option<Entry> {
        let entry = self.entries.get_mut(Self::index(number)?)?.take()?;
        self.free.insert(number);
        Some(entry)
    }

    /// Puts what is `from` in the place of what is `to`, which is returned, if there is another than itself.
    ///
    /// # Errors
    /// `EBADF`: one of them is not open. WASI has no way to make a descriptor of a number of one's choice.
    pub(super) fn renumber(&mut self, from: i32, to: i32) -> Result<Option<Entry>, i32> {
        if self.get(from).is_none() || self.get(to).is_none() {
            return Err(EBADF);
        }
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from);
        let place = Self::index(to).and_then(|index| self.entries.get_mut(index));
        Ok(place.and_then(|place| std::mem::replace(place, moved)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &Table) -> Vec<String> {
        let name = |entry: &Option<Entry>| match entry {
            None => "-".to_owned(),
            Some(Entry::File(number)) => number.to_string(),
            Some(Entry::Socket(_)) => "socket".to_owned(),
        };
        table.entries.iter().map(name).collect()
    }

    fn table() -> Table {
        let socket = || Socket::listening(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into());
        Table::new([socket(), socket()])
    }

    #[test]
    fn sockets_come_before_the_root_and_new_descriptors_are_the_lowest_free() {
        let mut table = table();
        assert_eq!(names(&table), ["0", "1", "2", "socket", "socket", "3"]);
        assert_eq!(
            (table.file(5, 57), table.file(3, 57), table.file(6, 57), table.file(-1, 57)),
            (Ok(3), Err(57), Err(8), Err(8))
        );
        assert_eq!(table.insert(Entry::File(4)), 6);
        assert!(matches!(table.remove(3), Some(Entry::Socket(_))));
        assert!(matches!(table.remove(0), Some(Entry::File(0))));
        assert!(table.remove(3).is_none() && table.remove(7).is_none() && table.remove(i32::MIN).is_none());
        assert_eq!([table.insert(Entry::File(5)), table.insert(Entry::File(6)), table.insert(Entry::File(7))], [0, 3, 7]);
        assert_eq!(names(&table), ["5", "1", "2", "6", "socket", "3", "4", "7"]);
    }

    #[test]
    fn a_descriptor_takes_the_place_of_another() {
        let mut table = table();
        assert!(matches!(table.renumber(3, 5), Ok(Some(Entry::File(3)))));
        assert_eq!(names(&table), ["0", "1", "2", "-", "socket", "socket"]);
        assert!(matches!(table.renumber(5, 5), Ok(None)));
        assert!(matches!(table.renumber(3, 5), Err(EBADF)) && matches!(table.renumber(5, 1 << 30), Err(EBADF)));
        assert!(matches!(table.renumber(1, 4), Ok(Some(Entry::Socket(_)))));
        assert_eq!(table.insert(Entry::File(9)), 1);
        assert_eq!(names(&table), ["0", "9", "2", "-", "1", "socket"]);
    }
}
