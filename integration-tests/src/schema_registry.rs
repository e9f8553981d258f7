//! A schema registry inside the test's own process, on loopback, that can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

/// How a registry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistryMood {
    /// As it should.
    #[default]
    Well,
    /// With status 500.
    Failing,
    /// Connections end without a word.
    Away,
    /// Connections stay, without a word.
    Silent,
}

#[derive(Debug, Default)]
struct State {
    mood: RegistryMood,
    asked: usize,
    /// Answers by path.
    answers: BTreeMap<String, Value>,
}

/// A registry.
#[derive(Debug)]
pub struct SchemaRegistry {
    url: String,
    state: Arc<Mutex<State>>,
}

impl SchemaRegistry {
    /// Starts one without schemas.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let answer = |path: &str| answer(&mut lock(&shared), path);
                // Who asked may have gone.
                let _gone = serve(&mut stream, answer);
                if lock(&shared).mood == RegistryMood::Silent {
                    kept.push(stream);
                }
            }
        });
        Ok(Self { url, state })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Registers a schema as the newest of `subject`, under a number.
    pub fn register(&self, id: u32, subject: &str, language: &str, schema: &str) {
        self.register_with(id, subject, language, schema, &json!([]));
    }

    /// The same, with references to others: `[{"name": …, "subject": …, "version": …}]`.
    pub fn register_with(&self, id: u32, subject: &str, language: &str, schema: &str, references: &Value) {
        let answer = json!({ "id": id, "schema": schema, "schemaType": language, "references": references });
        let mut state = lock(&self.state);
        let version = state.answers.keys().filter(|path| path.starts_with(&format!("/subjects/{subject}/"))).count();
        for path in [
            format!("/schemas/ids/{id}"),
            format!("/subjects/{subject}/versions/latest"),
            format!("/subjects/{subject}/versions/{}", version.max(1)),
        ] {
            state.answers.insert(path, answer.clone());
        }
    }

    /// How it answers from now on.
    pub fn set_mood(&self, mood: RegistryMood) {
        lock(&self.state).mood = mood;
    }

    /// How often it was asked, well or not.
    pub fn asked(&self) -> usize {
        lock(&self.state).asked
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(state: &mut State, path: &str) -> Option<(u16, Value)> {
    state.asked += 1;
    match state.mood {
        RegistryMood::Away | RegistryMood::Silent => None,
        RegistryMood::Failing => Some((500, json!({ "error_code": 50_001, "message": "no leader" }))),
        RegistryMood::Well => Some(match state.answers.get(path) {
            Some(answer) => (200, answer.clone()),
            None => (404, json!({ "error_code": 40_403, "message": "Schema not found" })),
        }),
    }
}

fn serve(stream: &mut TcpStream, answer: impl FnOnce(&str) -> Option<(u16, Value)>) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let Some((status, body)) = answer(request.split(' ').nth(1).unwrap_or_default()) else { return Ok(()) };
    let body = body.to_string();
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
    Ok(())
}
