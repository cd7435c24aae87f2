//! The wire format of D-Bus, as far as systemd's manager needs it (D-Bus specification, "Message Protocol").
//!
//! A library for all of D-Bus would come with an async runtime's worth of dependencies, for five calls with a handful of types.
//! Everything that is read here is foreign: lengths are checked against what is there and against [`MAX_MESSAGE`].

use std::io;

/// The longest message that is read. The specification allows 128 MiB; the bus's own messages to us have a few hundred bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// Bytes of the part of a header whose length is fixed.
pub(super) const FIXED_HEADER: usize = 16;

const ENDIAN: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
const VERSION: u8 = 1;

/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
#[cfg(test)]
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// A value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Number(_) => "t",
            Value::Bytes(_) => "ay",
            Value::Numbers(_) => "au",
        }
    }
}

/// Puts values behind one another, each where its type wants to lie.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u32(value.into());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    /// A string or an object's path.
    pub(super) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(signature.as_bytes());
        self.bytes.push(0);
    }

    /// An array of what `items` writes, whose items lie at multiples of `alignment`.
    fn array(&mut self, alignment: usize, items: impl FnOnce(&mut Self)) {
        self.u32(0);
        let count = self.bytes.len();
        // What lies between the length and the first item does not count.
        self.align(alignment);
        let begin = self.bytes.len();
        items(self);
        let bytes = length(self.bytes.len() - begin).to_ne_bytes();
        if let Some(place) = self.bytes.get_mut(count - bytes.len()..count) {
            place.copy_from_slice(&bytes);
        }
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Number(number) => self.u64(*number),
            Value::Bytes(bytes) => self.array(1, |writer| writer.bytes.extend_from_slice(bytes)),
            Value::Numbers(numbers) => self.array(4, |writer| numbers.iter().for_each(|number| writer.u32(*number))),
        }
    }

    /// `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |writer| {
            for (name, value) in properties {
                writer.align(8);
                writer.text(name);
                writer.variant(value);
            }
        });
    }

    /// `a(sa(sv))` without an item: StartTransientUnit's units beside the one.
    pub(super) fn no_units(&mut self) {
        self.array(8, |_| {});
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

fn length(bytes: usize) -> u32 {
    // What is longer than 4 GiB was refused long before: names and lists of a request of 16 MiB at most.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A method call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// Of the body.
    pub(super) signature: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub(super) fn encode(&self, serial: u32, body: &[u8]) -> Vec<u8> {
        let mut writer = Writer { bytes: vec![ENDIAN, Kind::Call as u8, 0, VERSION] };
        writer.u32(length(body.len()));
        writer.u32(serial);
        writer.array(8, |writer| {
            let texts = [
                (PATH, "o", self.path),
                (DESTINATION, "s", self.destination),
                (INTERFACE, "s", self.interface),
                (MEMBER, "s", self.member),
            ];
            for (code, signature, text) in texts {
                writer.align(8);
                writer.bytes.push(code);
                writer.signature(signature);
                writer.text(text);
            }
            if !self.signature.is_empty() {
                writer.align(8);
                writer.bytes.push(SIGNATURE);
                writer.signature("g");
                writer.signature(self.signature);
            }
        });
        writer.align(8);
        writer.bytes.extend_from_slice(body);
        writer.bytes
    }
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) serial: u32,
    /// Of the call that this answers.
    pub(super) reply_to: Option<u32>,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) body: Vec<u8>,
    /// Only a service asks who calls.
    #[cfg(test)]
    pub(super) sender: String,
}

/// How many bytes follow a header's fixed part.
pub(super) fn remaining(fixed: &[u8; FIXED_HEADER]) -> io::Result<usize> {
    if fixed.first() != Some(&ENDIAN) || fixed.get(3) != Some(&VERSION) {
        return Err(invalid("a message in another byte order or of another version"));
    }
    let mut reader = Reader { bytes: fixed, at: 4 };
    let body = reader.length()?;
    let _serial = reader.u32()?;
    let fields = reader.length()?;
    let whole = FIXED_HEADER.saturating_add(fields).next_multiple_of(8).saturating_add(body);
    if whole > MAX_MESSAGE {
        return Err(invalid("a message of more than 1 MiB"));
    }
    Ok(whole - FIXED_HEADER)
}

impl Message {
    /// Reads a whole message, whose length is that of its header.
    pub(super) fn decode(bytes: &[u8]) -> io::Result<Message> {
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(invalid("a message of an unknown kind")),
        };
        let mut reader = Reader { bytes, at: 4 };
        let body = reader.length()?;
        let serial = reader.u32()?;
        let end = reader.length()?.saturating_add(FIXED_HEADER);
        let mut message = Message {
            kind,
            serial,
            reply_to: None,
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            body: Vec::new(),
            #[cfg(test)]
            sender: String::new(),
        };
        while reader.at < end {
            reader.align(8)?;
            let code = reader.u8()?;
            match (code, reader.signature()?.as_str()) {
                (REPLY_SERIAL, "u") => message.reply_to = Some(reader.u32()?),
                (INTERFACE, "s") => message.interface = reader.text()?,
                (MEMBER, "s") => message.member = reader.text()?,
                (ERROR_NAME, "s") => message.error = reader.text()?,
                #[cfg(test)]
                (SENDER, "s") => message.sender = reader.text()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return Err(invalid("a header field of an unknown type")),
            }
        }
        reader.align(8)?;
        message.body = reader.take(body)?.to_vec();
        Ok(message)
    }
}

/// Takes values one by one.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or_else(short)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(short)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> io::Result<()> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.take(1)?.first().copied().ok_or_else(short)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| short())?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn length(&mut self) -> io::Result<usize> {
        usize::try_from(self.u32()?).map_err(|_| short())
    }

    /// A string or an object's path.
    pub(super) fn text(&mut self) -> io::Result<String> {
        let length = self.length()?;
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(|_| invalid("a text that is not UTF-8"))?;
        self.u8()?;
        Ok(text)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = self.u8()?.into();
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(|_| invalid("a signature that is not UTF-8"))?;
        self.u8()?;
        Ok(text)
    }
}

/// What only a service writes and reads: answers, signals, and the arguments of calls.
#[cfg(test)]
pub(super) mod service {
    use super::*;

    /// An answer to a call.
    pub(crate) fn answer(call: &Message, serial: u32, signature: &str, body: &[u8]) -> Vec<u8> {
        let fields = |writer: &mut Writer| text_field(writer, DESTINATION, "s", &call.sender);
        message(Kind::Return, serial, Some(call.serial), signature, body, fields)
    }

    /// An error in answer to a call.
    pub(crate) fn refusal(call: &Message, serial: u32, name: &str, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(text);
        message(Kind::Error, serial, Some(call.serial), "s", &body.finish(), |writer| {
            text_field(writer, DESTINATION, "s", &call.sender);
            text_field(writer, ERROR_NAME, "s", name);
        })
    }

    /// A signal to whoever asked for it.
    pub(crate) fn signal(serial: u32, path: &str, interface: &str, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
        message(Kind::Signal, serial, None, signature, body, |writer| {
            text_field(writer, PATH, "o", path);
            text_field(writer, INTERFACE, "s", interface);
            text_field(writer, MEMBER, "s", member);
        })
    }

    fn text_field(writer: &mut Writer, code: u8, signature: &str, text: &str) {
        writer.align(8);
        writer.bytes.push(code);
        writer.signature(signature);
        writer.text(text);
    }

    fn message(
        kind: Kind,
        serial: u32,
        reply_to: Option<u32>,
        signature: &str,
        body: &[u8],
        fields: impl FnOnce(&mut Writer),
    ) -> Vec<u8> {
        let mut writer = Writer { bytes: vec![ENDIAN, kind as u8, 0, VERSION] };
        writer.u32(length(body.len()));
        writer.u32(serial);
        writer.array(8, |writer| {
            fields(writer);
            if let Some(reply_to) = reply_to {
                writer.align(8);
                writer.bytes.push(REPLY_SERIAL);
                writer.signature("u");
                writer.u32(reply_to);
            }
            if !signature.is_empty() {
                writer.align(8);
                writer.bytes.push(SIGNATURE);
                writer.signature("g");
                writer.signature(signature);
            }
        });
        writer.align(8);
        writer.bytes.extend_from_slice(body);
        writer.bytes
    }

    impl Reader<'_> {
        /// `a(sv)`.
        pub(crate) fn properties(&mut self) -> Vec<(String, Value)> {
            let length = self.length().unwrap();
            self.align(8).unwrap();
            let end = self.at + length;
            let mut properties = Vec::new();
            while self.at < end {
                self.align(8).unwrap();
                let name = self.text().unwrap();
                let value = match self.signature().unwrap().as_str() {
                    "s" => Value::Text(self.text().unwrap()),
                    "b" => Value::Flag(self.u32().unwrap() == 1),
                    "t" => {
                        self.align(8).unwrap();
                        Value::Number(u64::from_ne_bytes(self.take(8).unwrap().try_into().unwrap()))
                    }
                    "ay" => {
                        let length = self.length().unwrap();
                        Value::Bytes(self.take(length).unwrap().to_vec())
                    }
                    "au" => {
                        let count = self.length().unwrap() / 4;
                        Value::Numbers((0..count).map(|_| self.u32().unwrap()).collect())
                    }
                    other => panic!("a property of type {other}"),
                };
                properties.push((name, value));
            }
            properties
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn short() -> io::Error {
    invalid("a message that ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StopUnit",
        signature: "ss",
    };

    fn encoded() -> Vec<u8> {
        let mut body = Writer::default();
        body.text("a.scope");
        body.text("replace");
        CALL.encode(7, &body.finish())
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let bytes = encoded();
        let (fixed, rest) = bytes.split_first_chunk::<FIXED_HEADER>().unwrap();
        assert_eq!(remaining(fixed).unwrap(), rest.len());
        let message = Message::decode(&bytes).unwrap();
        assert_eq!((message.kind, message.serial, message.member.as_str()), (Kind::Call, 7, "StopUnit"));
        let mut reader = Reader::new(&message.body);
        assert_eq!((reader.text().unwrap(), reader.text().unwrap()), ("a.scope".to_owned(), "replace".to_owned()));
        assert!(reader.text().is_err());
    }

    #[test]
    fn properties_lie_where_the_specification_has_them() {
        let mut writer = Writer::default();
        writer.properties(&[("A", Value::Flag(true)), ("Pids", Value::Numbers(vec![3]))]);
        let mut expected = Vec::new();
        let mut put = |bytes: &[u8]| expected.extend_from_slice(bytes);
        // Length of the array, then padding to the first struct.
        put(&40u32.to_ne_bytes());
        put(&[0; 4]);
        put(&1u32.to_ne_bytes());
        put(b"A\0\x01b\0\0\0\0");
        put(&1u32.to_ne_bytes());
        // The next struct begins at byte 24, where the one before ends.
        put(&4u32.to_ne_bytes());
        put(b"Pids\0\x02au\0\0\0\0");
        put(&4u32.to_ne_bytes());
        put(&3u32.to_ne_bytes());
        let written = writer.finish();
        assert_eq!(written, expected);
    }

    #[test]
    fn foreign_bytes_are_refused_and_never_panic() {
        let good = encoded();
        for cut in 0..good.len() {
            assert!(Message::decode(&good[..cut]).is_err(), "{cut}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = Message::decode(&bad);
                let _ = remaining(bad.first_chunk().unwrap());
            }
        }
        let mut huge = *good.first_chunk::<FIXED_HEADER>().unwrap();
        huge[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(remaining(&huge).is_err());
    }
}
