//! Traces for OpenTelemetry: each epoch with what it is made of, posted to a collector in the JSON form of OTLP over HTTP
//! (OpenTelemetry protocol 1, "JSON Protobuf Encoding"). Its own libraries would weigh more than the rest of the daemon.
//!
//! A trace is lost where the collector does not answer: nothing waits for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::host::{Host, Machine};

/// Spans on their way; more are dropped.
const SPANS_MAX: usize = 4_096;
/// How often they are sent.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The span that begins a trace: those around it last as long as the daemon.
const ROOT: &str = "epoch";

/// Where a collector is.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Host and port.
    authority: String,
    path: String,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => {
                let authority = match authority.port() {
                    Some(_) => authority.to_string(),
                    None => format!("{authority}:4318"),
                };
                Ok(Self { authority, path: format!("{}/v1/traces", uri.path().trim_end_matches('/')) })
            }
            (Some("https"), _) => Err("TLS is left to a collector on this machine: say `http://`".to_owned()),
            _ => Err("say it as `http://HOST:PORT`".to_owned()),
        }
    }
}

/// Takes spans that ended.
#[derive(Debug)]
pub(super) struct Traces(mpsc::Sender<Value>);

/// Sends them on.
#[derive(Debug)]
pub(crate) struct Exporter {
    endpoint: Endpoint,
    spans: mpsc::Receiver<Value>,
}

/// Both ends of the way to a collector.
pub(super) fn traces(endpoint: Endpoint) -> (Traces, Exporter) {
    let (sender, spans) = mpsc::channel(SPANS_MAX);
    (Traces(sender), Exporter { endpoint, spans })
}

/// A span that has not ended.
struct Open {
    trace: u128,
    id: u64,
    parent: Option<u64>,
    started_at: i64,
    attributes: Attributed,
    events: Vec<Value>,
    is_error: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Traces {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut found = Attributed::default();
        attributes.record(&mut found);
        let is_root = span.name() == ROOT;
        let within = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let open = extensions.get::<Open>();
            open.map(|open| (open.trace, open.id))
        });
        let (trace, parent) = match within {
            _ if is_root => {
                for around in span.scope().skip(1) {
                    let name = around.name();
                    if let Some(Attributed(outer)) = around.extensions().get::<Attributed>() {
                        let of = |(key, value): &(String, Value)| (format!("{name}.{key}"), value.clone());
                        found.0.extend(outer.iter().map(of));
                    }
                }
                (rand::random(), None)
            }
            Some((trace, parent)) => (trace, Some(parent)),
            None => return span.extensions_mut().insert(found),
        };
        let (id, started_at) = (rand::random(), Machine.now_micros());
        let open = Open { trace, id, parent, started_at, attributes: found, events: Vec::new(), is_error: false };
        span.extensions_mut().insert(open);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        let mut found = Attributed::default();
        event.record(&mut found);
        open.is_error |= *event.metadata().level() <= Level::WARN;
        let message = found.0.iter().position(|(key, _)| key == "message").map(|at| found.0.remove(at).1);
        let name = message.and_then(|message| message["stringValue"].as_str().map(str::to_owned));
        open.events.push(json!({
            "timeUnixNano": nanos(Machine.now_micros()), "name": name.unwrap_or_default(), "attributes": found.to_json(),
        }));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let ended = json!({
            "traceId": format!("{:032x}", open.trace),
            "spanId": format!("{:016x}", open.id),
            "parentSpanId": open.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
            "name": span.name(),
            "kind": 1,
            "startTimeUnixNano": nanos(open.started_at),
            "endTimeUnixNano": nanos(Machine.now_micros()),
            "attributes": open.attributes.to_json(),
            "events": open.events,
            "status": { "code": if open.is_error { 2 } else { 1 } },
        });
        // Where the collector is too slow, traces are what is lost.
        drop(self.0.try_send(ended));
    }
}

impl Exporter {
    /// Sends spans until `stop`, and then those that are left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut clock = tokio::time::interval(PERIOD);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_heard = true;
        let mut spans = Vec::new();
        loop {
            let is_last = tokio::select! {
                () = stop.cancelled() => true,
                _ = clock.tick() => false,
            };
            while let Ok(span) = self.spans.try_recv() {
                spans.push(span);
            }
            if !spans.is_empty() {
                let sent = tokio::time::timeout(PATIENCE, self.endpoint.post(&spans)).await;
                let sent = sent.unwrap_or_else(|_| Err("it does not answer".into()));
                if let Err(error) = &sent
                    && is_heard
                {
                    let endpoint = &self.endpoint.authority;
                    warn!(%endpoint, %error, "traces are lost, the collector does not take them");
                }
                is_heard = sent.is_ok();
                spans.clear();
            }
            if is_last {
                return;
            }
        }
    }
}

impl Endpoint {
    async fn post(&self, spans: &[Value]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let service = json!({ "key": "service.name", "value": { "stringValue": "bessemer" } });
        let version = json!({ "key": "service.version", "value": { "stringValue": env!("CARGO_PKG_VERSION") } });
        let scope = json!({ "scope": { "name": "bessemer" }, "spans": spans });
        let body = json!({
            "resourceSpans": [{ "resource": { "attributes": [service, version] }, "scopeSpans": [scope] }]
        });
        let request = Request::post(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let response = tokio::select! {
            response = sender.send_request(request) => response?,
            ended = connection => return Err(ended.err().map_or_else(|| "it hung up".into(), Into::into)),
        };
        if response.status().is_success() { Ok(()) } else { Err(format!("it says {}", response.status()).into()) }
    }
}

/// Fields, as attributes of OpenTelemetry.
#[derive(Debug, Default)]
struct Attributed(Vec<(String, Value)>);

impl Attributed {
    fn to_json(&self) -> Value {
        self.0.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
    }

    fn push(&mut self, field: &Field, value: Value) {
        self.0.push((field.name().to_owned(), value));
    }
}

impl Visit for Attributed {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, json!({ "intValue": value.to_string() }));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, json!({ "intValue": value.to_string() }));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, json!({ "boolValue": value }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, json!({ "stringValue": value }));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, json!({ "stringValue": format!("{value:?}") }));
    }
}

/// Microseconds as the text of nanoseconds, which JSON's numbers would round.
fn nanos(micros: i64) -> String {
    format!("{}", i128::from(micros) * 1_000)
}
