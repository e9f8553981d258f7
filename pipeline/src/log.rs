//! The log: what the program does, on stderr, as lines for people or as JSON for machines.
//!
//! A command that is asked something once says its own words, and logs only if told to. A daemon has no other words than
//! its log.

mod otlp;

use std::str::FromStr;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::{Cli, Command, LogFormat, LoggingArgs};
use crate::error::{Error, Result};
use crate::output;

pub(crate) use otlp::{Endpoint, Exporter};

/// Begins it as the command line asks. What is returned sends traces on, where somebody wants them.
pub(crate) fn begin(cli: &Cli) -> Result<Option<Exporter>> {
    let LoggingArgs { verbose, log_level, log_format, otlp_endpoint } = &cli.log;
    let asked = log_level.clone().or_else(environment);
    let filter = match (asked, verbose, &cli.command) {
        (Some(filter), _, _) => Some(filter),
        (None, 0, Command::Daemon(_)) | (None, 1, _) => Some("info".to_owned()),
        (None, 0, _) => None,
        (None, _, _) => Some("debug".to_owned()),
    };
    let filter = filter.map(|filter| parse(&filter)).transpose()?;
    let lines = filter.map(|filter| {
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        match log_format {
            LogFormat::Text => layer.with_target(false).with_ansi(output::is_terminal()).with_filter(filter).boxed(),
            LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed(),
        }
    });
    let (traces, exporter) = otlp_endpoint.clone().map(otlp::traces).unzip();
    let traces = traces.map(|traces| traces.with_filter(Targets::new().with_target("bessemer", Level::INFO)));
    tracing_subscriber::registry().with(lines).with(traces).init();
    Ok(exporter)
}

/// A level is that of this program; what it is made of is only heard when it warns.
fn parse(filter: &str) -> Result<EnvFilter> {
    let wrong = || Error::Unknown {
        message: format!(
            "`{filter}` is no filter for the log: say `error`, `warn`, `info`, `debug`, `trace` or `off`, or parts of the \
             program with theirs, as in `info,bessemer_connectors=debug`"
        ),
    };
    let directives = if filter.contains([',', '=']) {
        filter.to_owned()
    } else if filter.eq_ignore_ascii_case("off") {
        "off".to_owned()
    } else {
        let level = Level::from_str(filter).map_err(|_| wrong())?.as_str().to_lowercase();
        format!("error,bessemer={level},bessemer_connectors={level},bessemer_transforms={level}")
    };
    EnvFilter::try_new(directives).map_err(|_| wrong())
}

#[expect(clippy::disallowed_methods, reason = "this is the program's edge")]
fn environment() -> Option<String> {
    std::env::var("BESSEMER_LOG").ok().filter(|filter| !filter.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_that_of_this_program_and_anything_else_is_refused() {
        assert!(parse("debug").unwrap().to_string().contains("bessemer_connectors=debug"));
        assert!(parse("WARN").unwrap().to_string().contains("bessemer=warn"));
        assert_eq!(parse("off").unwrap().to_string(), "off");
        assert!(parse("info,hyper=trace").unwrap().to_string().contains("hyper=trace"));
        for wrong in ["verbose", "", "bessemer=loud"] {
            let Err(error) = parse(wrong) else { panic!("`{wrong}` is accepted") };
            assert!(error.to_string().contains("is no filter for the log"));
        }
    }
}
