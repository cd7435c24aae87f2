//! Builtins that take input apart: `getopts` its arguments, `read` a line.

use super::{Run, Shell};
use crate::text;

impl Shell {
    /// `getopts`.
    pub async fn getopts(&mut self, args: &[String]) -> Run {
        let [spec, name, rest @ ..] = args else {
            return Err(self.fatal("getopts: usage: getopts OPTIONS NAME [ARGUMENT]...").await);
        };
        let list: Vec<String> = if rest.is_empty() { self.positional.to_vec() } else { rest.to_vec() };
        let mut index = self.value("OPTIND").and_then(|text| text.parse::<usize>().ok()).unwrap_or(1).max(1);
        let mut offset = self.option_offset;
        let silent = spec.starts_with(':');
        let argument = list.get(index - 1).cloned().unwrap_or_default();
        if offset == 0 {
            if argument == "--" {
                self.assign("OPTIND", &(index + 1).to_string()).await?;
                self.assign(name, "?").await?;
                return Ok(1);
            }
            if !argument.starts_with('-') || argument.len() < 2 {
                self.assign(name, "?").await?;
                self.assign("OPTIND", &index.to_string()).await?;
                return Ok(1);
            }
            offset = 1;
        }
        let letters: Vec<char> = argument.chars().collect();
        let letter = letters.get(offset).copied().unwrap_or('?');
        offset += 1;
        let known = letter != ':' && spec.trim_start_matches(':').contains(letter);
        let wants = known && spec.contains(&format!("{letter}:"));
        let mut value = letter.to_string();
        self.assign("OPTARG", "").await?;
        if !known {
            value = "?".into();
            if silent {
                self.assign("OPTARG", &letter.to_string()).await?;
            } else {
                self.complain(&format!("illegal option -- {letter}")).await;
            }
        } else if wants {
            let inline: String = letters.iter().skip(offset).collect();
            offset = letters.len();
            if !inline.is_empty() {
                self.assign("OPTARG", &inline).await?;
            } else if let Some(next) = list.get(index).cloned() {
                index += 1;
                self.assign("OPTARG", &next).await?;
            } else if silent {
                value = ":".into();
                self.assign("OPTARG", &letter.to_string()).await?;
            } else {
                value = "?".into();
                self.complain(&format!("option requires an argument -- {letter}")).await;
            }
        }
        if offset >= letters.len() {
            offset = 0;
            index += 1;
        }
        self.assign("OPTIND", &index.to_string()).await?;
        self.option_offset = offset;
        self.assign(name, &value).await?;
        Ok(0)
    }

    /// `read`.
    pub async fn read(&mut self, args: &[String]) -> Run {
        let mut raw = false;
        let mut timeout = None;
        let mut prompt = None;
        let mut names = Vec::new();
        let mut rest = args.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "-r" => raw = true,
                "-s" => {}
                "-t" => timeout = rest.next().and_then(|text| text.parse::<f64>().ok()),
                "-p" => prompt = rest.next().cloned(),
                "--" => {
                    names.extend(rest.by_ref().cloned());
                }
                name => names.push(name.to_string()),
            }
        }
        if let Some(prompt) = prompt {
            self.error_text(&prompt).await;
        }
        let reading = self.read_line(raw);
        let (line, ended) = match timeout {
            None => reading.await,
            Some(seconds) => {
                let wait = crate::runtime::sleep(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
                match crate::runtime::executor::first(reading, wait).await {
                    Ok(line) => line,
                    Err(()) => return Ok(142),
                }
            }
        };
        if names.is_empty() {
            names.push("REPLY".into());
        }
        let fields = self.split_line(&line, names.len());
        for (index, name) in names.iter().enumerate() {
            let value = fields.get(index).cloned().unwrap_or_default();
            self.assign(name, &value).await?;
        }
        Ok(u8::from(!ended))
    }

    /// One line, byte by byte, so that nothing is taken from who reads next.
    async fn read_line(&self, raw: bool) -> (Vec<(char, bool)>, bool) {
        let mut bytes: Vec<u8> = Vec::new();
        let mut ended = false;
        let mut escapes = Vec::new();
        if let Some(handle) = self.fds.get(&0) {
            let mut byte = [0];
            let mut escaped = false;
            while let Ok(1) = handle.read(&mut byte).await {
                let [value] = byte;
                if escaped {
                    escaped = false;
                    if value != b'\n' {
                        escapes.push(bytes.len());
                        bytes.push(value);
                    }
                } else if value == b'\\' && !raw {
                    escaped = true;
                } else if value == b'\n' {
                    ended = true;
                    break;
                } else {
                    bytes.push(value);
                }
            }
        }
        let mut line = Vec::new();
        let mut offset = 0;
        for character in text::decode(&bytes).chars() {
            line.push((character, escapes.contains(&offset)));
            offset += text::encode(character.encode_utf8(&mut [0; 4])).len();
        }
        (line, ended)
    }
}
