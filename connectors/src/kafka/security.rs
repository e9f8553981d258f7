//! TLS and SASL: which settings of the client make a connection, and what this build lacks for them.
//!
//! librdkafka takes TLS, SCRAM and OAUTHBEARER from OpenSSL, which feature `kafka-tls` links. PLAIN needs none of it.

use bessemer_schemas::{Diagnostic, OptionEntry, OptionMap, OptionValue, Secret};

use super::token::TokenEndpoint;

/// Whether OpenSSL is built in.
const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// How to come by a build that has it.
const BUILD: &str = "build it with `cargo build --release --features kafka-tls` (docs/kafka.md, \"Security\")";

/// The mechanisms of SASL, and whether OpenSSL is needed for them.
const MECHANISMS: [(&str, bool); 4] =
    [("PLAIN", false), ("SCRAM-SHA-256", true), ("SCRAM-SHA-512", true), ("OAUTHBEARER", true)];

/// The other half of what a user asks for who writes one of them.
const MECHANISM_HELP: &str =
    "add `properties.sasl.mechanism` = `'PLAIN'`, `'SCRAM-SHA-256'`, `'SCRAM-SHA-512'` or `'OAUTHBEARER'`";

/// What is wrong with one setting before the client is asked about it: this build cannot do it, or no build.
pub(super) fn problem(key: &str, value: &Secret, entry: &OptionEntry) -> Option<Diagnostic> {
    problem_with(HAS_TLS, key, value, entry)
}

fn problem_with(has_tls: bool, key: &str, value: &Secret, entry: &OptionEntry) -> Option<Diagnostic> {
    let needs_tls = match key {
        "security.protocol" => ["ssl", "sasl_ssl"].iter().any(|protocol| value.reveal().eq_ignore_ascii_case(protocol)),
        "sasl.mechanism" | "sasl.mechanisms" => {
            let known = MECHANISMS.iter().find(|(name, _)| *name == value.reveal());
            let Some((_, needs_tls)) = known else {
                let message = format!("option `{}` cannot be `{}`", entry.key, entry.value);
                let help = "the choices are `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` and `OAUTHBEARER`";
                return Some(Diagnostic::error(message, entry.value_span).with_help(help));
            };
            *needs_tls
        }
        _ => {
            key.starts_with("ssl.")
                || key == "enable.ssl.certificate.verification"
                || TokenEndpoint::has_option(&entry.key)
        }
    };
    if has_tls || !needs_tls {
        return None;
    }
    let of_connection = key == "security.protocol" || key.starts_with("sasl.mechanism");
    let written = if of_connection { format!("{} = '{}'", entry.key, entry.value) } else { entry.key.clone() };
    let message = format!("`{written}` needs TLS, which this build of Bessemer lacks");
    Some(Diagnostic::error(message, entry.key_span).with_help(BUILD))
}

/// What an entry says, also where it is a secret.
pub(super) fn revealed(entry: &OptionEntry) -> Secret {
    match &entry.value {
        OptionValue::Secret(secret) => secret.clone(),
        value => Secret::new(value.to_string()),
    }
}

/// What of the settings is missing for the connection that they ask for, where each by itself is right. Whether it needs
/// tokens, whose endpoint sees to its own.
pub(super) fn check_connection(options: &mut OptionMap, entries: &[OptionEntry]) -> bool {
    let find = |keys: &[&str]| {
        entries.iter().find(|entry| keys.iter().any(|key| entry.key.strip_prefix("properties.") == Some(*key)))
    };
    let text = |entry: &OptionEntry| revealed(entry).reveal().to_ascii_uppercase();
    let protocol = find(&["security.protocol"]);
    let is_sasl = protocol.is_some_and(|protocol| text(protocol).starts_with("SASL_"));
    let is_tls = protocol.is_some_and(|protocol| text(protocol).ends_with("SSL"));
    let of_tls = entries.iter().find(|entry| entry.key.starts_with("properties.ssl."));
    let has_password = find(&["sasl.username"]).is_some() && find(&["sasl.password"]).is_some();
    let mechanism = find(&["sasl.mechanism", "sasl.mechanisms"]);
    let of_token = entries.iter().find(|entry| TokenEndpoint::has_option(&entry.key));
    let is_of_tokens = mechanism.is_some_and(|mechanism| text(mechanism) == "OAUTHBEARER");
    let problem = match (protocol, mechanism, of_token) {
        (Some(protocol), None, _) if is_sasl => {
            let message = format!("`{} = '{}'` needs a mechanism", protocol.key, protocol.value);
            Some(Diagnostic::error(message, protocol.key_span).with_help(MECHANISM_HELP))
        }
        (_, Some(mechanism), _) if !is_sasl => {
            let message = format!("`{}` says nothing without a protocol that has SASL", mechanism.key);
            let help =
                "add `properties.security.protocol = 'SASL_SSL'`, or `'SASL_PLAINTEXT'` on a network of your own";
            Some(Diagnostic::error(message, mechanism.key_span).with_help(help))
        }
        (_, _, Some(entry)) if !is_of_tokens => {
            let message = format!("`{}` says nothing without tokens", entry.key);
            let help = "add `properties.sasl.mechanism = 'OAUTHBEARER'`, or leave it out";
            Some(Diagnostic::error(message, entry.key_span).with_help(help))
        }
        (_, Some(mechanism), _) if !is_of_tokens && !has_password => {
            let message = format!("mechanism `{}` needs a name and a password", mechanism.value);
            let help = "write `properties.sasl.username = 'name'` and `properties.sasl.password = secret('NAME')`";
            Some(Diagnostic::error(message, mechanism.key_span).with_help(help))
        }
        _ => of_tls.filter(|_| !is_tls).map(|entry| {
            let message = format!("`{}` says nothing without a protocol that has TLS", entry.key);
            let help = "add `properties.security.protocol = 'SSL'`, or `'SASL_SSL'`";
            Diagnostic::error(message, entry.key_span).with_help(help)
        }),
    };
    if let Some(problem) = problem {
        options.report(problem);
    }
    is_of_tokens
}

#[cfg(test)]
mod tests {
    use bessemer_schemas::Span;

    use super::*;

    #[test]
    fn a_build_without_tls_says_how_to_come_by_one_with_it() {
        for (key, value, refused) in [
            ("security.protocol", "SASL_SSL", Some("properties.security.protocol = 'SASL_SSL'")),
            ("security.protocol", "ssl", Some("properties.security.protocol = 'ssl'")),
            ("security.protocol", "SASL_PLAINTEXT", None),
            ("sasl.mechanism", "PLAIN", None),
            ("sasl.mechanisms", "SCRAM-SHA-256", Some("properties.sasl.mechanisms = 'SCRAM-SHA-256'")),
            ("sasl.mechanism", "OAUTHBEARER", Some("properties.sasl.mechanism = 'OAUTHBEARER'")),
            ("sasl.password", "x", None),
            ("sasl.oauthbearer.client.secret", "swordfish", Some("properties.sasl.oauthbearer.client.secret")),
            ("https.ca.location", "ca.pem", Some("properties.https.ca.location")),
            ("ssl.key.password", "swordfish", Some("properties.ssl.key.password")),
        ] {
            let (key_span, value_span) = (Span::default(), Span::default());
            let written = OptionValue::Text(value.to_owned());
            let entry = OptionEntry { key: format!("properties.{key}"), key_span, value: written, value_span };
            let problem = problem_with(false, key, &Secret::new(value.to_owned()), &entry);
            let expected = refused.map(|refused| format!("`{refused}` needs TLS, which this build of Bessemer lacks"));
            assert_eq!(problem.as_ref().map(|problem| &problem.message), expected.as_ref());
            assert!(problem.is_none_or(|problem| problem.help.is_some_and(|help| help.contains("kafka-tls"))));
            assert!(problem_with(true, key, &Secret::new(value.to_owned()), &entry).is_none());
        }
    }

    #[test]
    fn settings_that_say_nothing_alone_are_told() {
        for (written, expected) in [
            (
                &[("ssl.ca.location", "ca.pem")][..],
                Some("`properties.ssl.ca.location` says nothing without a protocol"),
            ),
            (&[("https.ca.location", "ca.pem")], Some("`properties.https.ca.location` says nothing without tokens")),
            (&[("ssl.ca.location", "ca.pem"), ("security.protocol", "ssl")], None),
        ] {
            let (key_span, value_span) = (Span::default(), Span::default());
            let entry = |(key, value): &(&str, &str)| {
                let value = OptionValue::Text((*value).to_owned());
                OptionEntry { key: format!("properties.{key}"), key_span, value, value_span }
            };
            let entries: Vec<_> = written.iter().map(entry).collect();
            let mut options = OptionMap::new("source `flights`", Span::default(), Vec::new());
            check_connection(&mut options, &entries);
            let diagnostics = options.finish("connector `kafka`");
            assert_eq!(diagnostics.len(), usize::from(expected.is_some()));
            let is_told = |(problem, expected): (&Diagnostic, &str)| problem.message.starts_with(expected);
            assert!(diagnostics.iter().zip(expected).all(is_told), "{diagnostics:?}");
        }
    }
}
