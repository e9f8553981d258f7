//! Values with units, as people write them in options.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. Parses `65536`, `64KB`, `64 MiB`, `1.5GiB`; `KB` is 1,000 bytes, `KiB` 1,024.
///
/// ```
/// use bessemer_schemas::ByteSize;
/// assert_eq!("64 MiB".parse(), Ok(ByteSize(64 << 20)));
/// assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || format!("`{text}` is no size in bytes; write for example `64MiB` or `500MB`");
        let (number, unit) = split_unit(text);
        let number: f64 = number.parse().map_err(|_| help())?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" | "k" => 1_000,
            "mb" | "m" => 1_000_000,
            "gb" | "g" => 1_000_000_000,
            "tb" | "t" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(help()),
        };
        let bytes = number * factor as f64;
        if !(0.0..9e18).contains(&bytes) {
            return Err(help());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64 / 1024.0;
        if value < 1.0 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", units[unit])
    }
}

/// Parses `250ms`, `30s`, `5 minutes`, `2h`, `1 day`; a bare number is refused, since its unit is a guess.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let help = || format!("`{text}` is no duration; write a number with a unit, for example `30s`, `5m` or `1h`");
    let (number, unit) = split_unit(text);
    let number: f64 = number.parse().map_err(|_| help())?;
    let seconds = match unit.to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(help()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| help())
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (text[..at].trim(), text[at..].trim())
}

/// A secret from the environment; `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the client that needs it and nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
