use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use bessemer_schemas::{ErrorKind, OptionEntry, OptionMap, OptionValue, Secret, Span};

use super::*;

/// What is answered to a path: status and body.
type Answer = Box<dyn Fn(&str) -> (u16, String) + Send>;

/// A registry on loopback.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
    credentials: Arc<Mutex<Vec<String>>>,
}

fn serve(answer: Answer) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let (asked, credentials) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<String>>>::default());
    let (counter, seen) = (Arc::clone(&asked), Arc::clone(&credentials));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            counter.fetch_add(1, Ordering::Relaxed);
            let by_name = |line: &&String| line.to_lowercase().starts_with("authorization:");
            seen.lock().unwrap().extend(head.iter().find(by_name).cloned());
            let path = head[0].split(' ').nth(1).unwrap();
            let (status, body) = answer(path.strip_prefix("/api").unwrap());
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // Who asked may have gone.
            let _gone = stream.write_all((head + &body).as_bytes());
        }
    });
    Server { url, asked, credentials }
}

fn schema_answer(path: &str) -> (u16, String) {
    match path {
        "/schemas/ids/7" | "/subjects/orders%2Fnew-value/versions/latest" => {
            (200, r#"{"schema": "\"int\"", "id": 7, "guid": "unread"}"#.to_owned())
        }
        "/schemas/ids/8" => {
            let references =
                r#"[{"name": "b", "subject": "b", "version": 2}, {"name": "c", "subject": "c", "version": 1}]"#;
            (200, format!(r#"{{"schema": "a", "schemaType": "PROTOBUF", "references": {references}}}"#))
        }
        "/subjects/b/versions/2" => {
            let references = r#"[{"name": "c", "subject": "c", "version": 1}]"#;
            (200, format!(r#"{{"schema": "b", "references": {references}}}"#))
        }
        "/subjects/c/versions/1" => (200, r#"{"schema": "c"}"#.to_owned()),
        "/schemas/ids/3" => (200, r#"{"schema": "<a/>", "schemaType": "XML"}"#.to_owned()),
        "/schemas/ids/401" => (401, "{}".to_owned()),
        "/schemas/ids/404" => (404, "<h1>Not found</h1>".to_owned()),
        "/schemas/ids/500" => (500, r#"{"error_code": 50001, "message": "no leader"}"#.to_owned()),
        "/schemas/ids/1" => (200, "<h1>Welcome</h1>".to_owned()),
        "/schemas/ids/2" => {
            (200, r#"{"schema": "a", "references": [{"name": "x", "subject": "x", "version": 1}]}"#.to_owned())
        }
        _ => (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.to_owned()),
    }
}

fn entry(key: &str, value: OptionValue) -> OptionEntry {
    OptionEntry { key: key.to_owned(), key_span: Span::default(), value, value_span: Span::default() }
}

fn options(entries: &[(&str, &str)]) -> (Option<SchemaRegistryOptions>, Vec<String>) {
    let value = |key: &str, text: &str| match key {
        "schema_registry_password" => OptionValue::Secret(Secret::new(text)),
        _ => OptionValue::Text(text.to_owned()),
    };
    let entries = entries.iter().map(|(key, text)| entry(key, value(key, text))).collect();
    let mut map = OptionMap::new("source `s`", Span::default(), entries);
    let options = SchemaRegistryOptions::take(&mut map, std::time::Duration::from_secs(30));
    let problems = map.finish("connector `kafka`");
    assert!(problems.iter().all(|problem| problem.help.is_some()));
    (options, problems.into_iter().map(|problem| problem.message).collect())
}

fn registry(url: &str, state: Option<&Location>) -> Arc<SchemaRegistry> {
    Arc::new(SchemaRegistry::new(&options(&[("schema_registry", url)]).0.unwrap(), "orders", state).unwrap())
}

async fn ask(registry: &Arc<SchemaRegistry>, id: u32) -> Result<Option<Arc<RegisteredSchema>>> {
    let registry = Arc::clone(registry);
    tokio::task::spawn_blocking(move || registry.schema(SchemaId(id), &CancellationToken::new())).await.unwrap()
}

#[test]
fn a_record_begins_with_the_number_of_its_schema() {
    assert_eq!(SchemaId::split(&[0, 0, 0, 1, 2, 9, 8]), Some((SchemaId(258), &[9, 8][..])));
    assert_eq!(SchemaId::split(&[0, 0, 0, 1, 2]), Some((SchemaId(258), &[][..])));
    assert_eq!(SchemaId::split(&[0, 0, 0, 1]), None);
    assert_eq!(SchemaId::split(&[1, 0, 0, 1, 2, 9]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_asked_for_once_also_by_later_processes() {
    let server = serve(Box::new(schema_answer));
    let folder = tempfile::tempdir().unwrap();
    let state = Location::local(folder.path()).unwrap();
    let first = registry(&server.url, Some(&state));
    for _ in 0..3 {
        assert_eq!(ask(&first, 7).await.unwrap().unwrap().schema, "\"int\"");
        assert!(ask(&first, 9).await.unwrap().is_none());
    }
    let referring = ask(&first, 8).await.unwrap().unwrap();
    assert_eq!(referring.language, SchemaLanguage::Protobuf);
    let names: Vec<_> = referring.references.iter().map(|reference| reference.name.as_str()).collect();
    assert_eq!(names, ["c", "b"], "what is referred to comes first, once");
    let asked = server.asked.load(Ordering::Relaxed);
    assert_eq!(asked, 5);

    let second = registry(&server.url, Some(&state));
    assert_eq!(ask(&second, 7).await.unwrap().unwrap().schema, "\"int\"");
    assert_eq!(ask(&second, 8).await.unwrap().unwrap(), referring);
    assert_eq!(server.asked.load(Ordering::Relaxed), asked);
    // The next epoch asks again for what was not there.
    assert!(ask(&first, 9).await.unwrap().is_none());
    first.begin_epoch().unwrap();
    assert!(ask(&first, 9).await.unwrap().is_none());
    assert_eq!(server.asked.load(Ordering::Relaxed), asked + 1);
    // Numbers are those of one registry.
    let other = registry("http://127.0.0.1:1", Some(&state));
    assert_eq!(ask(&other, 7).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_stay_those_of_the_schema_that_they_were_taken_from() {
    let server = serve(Box::new(schema_answer));
    let folder = tempfile::tempdir().unwrap();
    let state = Location::local(folder.path()).unwrap();
    let first = registry(&server.url, Some(&state));
    let found = first.columns_of("orders/new-value").await.unwrap();
    let error = first.columns_of("nothing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("has no subject `nothing`"), "{error}");
    let kept = found.clone();
    tokio::task::spawn_blocking(move || first.keep_columns("orders/new-value", &kept)).await.unwrap().unwrap();
    let asked = server.asked.load(Ordering::Relaxed);
    for url in [&server.url, "http://127.0.0.1:1"] {
        assert_eq!(
            registry(url, Some(&state)).columns_of("orders/new-value").await.unwrap(),
            found,
            "also when it moves"
        );
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), asked);
    let options = options(&[("schema_registry", "http://127.0.0.1:1")]).0.unwrap();
    let other = SchemaRegistry::new(&options, "returns", Some(&state)).unwrap();
    assert_eq!(other.columns_of("orders/new-value").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_that_is_not_known_is_told_from_no_answer() {
    let server = serve(Box::new(schema_answer));
    let folder = tempfile::tempdir().unwrap();
    let state = Location::local(folder.path()).unwrap();
    for _ in 0..2 {
        let found = ask(&registry(&server.url, Some(&state)), 3).await.unwrap().unwrap();
        assert_eq!(found.language, SchemaLanguage::Other);
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_without_a_schema_are_bounded_in_an_epoch() {
    let server = serve(Box::new(schema_answer));
    let registry = registry(&server.url, None);
    let numbers = 1_000..1_000 + u32::try_from(MISSING_MAX).unwrap();
    for id in numbers.clone() {
        assert!(ask(&registry, id).await.unwrap().is_none());
    }
    let error = ask(&registry, numbers.end).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("ask for schema {}", numbers.end)), "{error}");
    assert!(ask(&registry, numbers.start).await.unwrap().is_none());
    assert!(ask(&registry, 7).await.unwrap().is_some());
    registry.begin_epoch().unwrap();
    assert!(ask(&registry, numbers.end).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_are_told_apart() {
    let server = serve(Box::new(schema_answer));
    let registry = registry(&server.url, None);
    for (id, kind, words) in [
        (401, ErrorKind::Invalid, "answers 401: check `schema_registry_username`"),
        (404, ErrorKind::Invalid, "it answered 404, but not as a schema registry does"),
        (500, ErrorKind::Unavailable, "it answered 500"),
        (1, ErrorKind::Invalid, "its answer is none of a schema registry"),
        (2, ErrorKind::Invalid, "cannot ask for version 1 of subject `x`"),
    ] {
        let error = ask(&registry, id).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains(&server.url), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut options = options(&[("schema_registry", &url)]).0.unwrap();
    options.timeout = std::time::Duration::from_millis(200);
    let error = ask(&Arc::new(SchemaRegistry::new(&options, "orders", None).unwrap()), 7).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("it did not answer in time"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_shown_to_the_registry_and_to_nobody_else() {
    let server = serve(Box::new(schema_answer));
    let url = ("schema_registry", server.url.as_str());
    let basic = [url, ("schema_registry_username", "bob"), ("schema_registry_password", "pass")];
    let bearer = [url, ("schema_registry_token", "abc")];
    for (entries, expected) in [(&basic[..], "basic ym9iOnBhc3M="), (&bearer[..], "bearer abc")] {
        let options = options(entries).0.unwrap();
        assert!(!format!("{options:?}").contains("pass\"") && !format!("{options:?}").contains("abc"), "{options:?}");
        ask(&Arc::new(SchemaRegistry::new(&options, "orders", None).unwrap()), 7).await.unwrap();
        let seen = server.credentials.lock().unwrap().pop().unwrap().to_lowercase();
        assert!(seen.ends_with(&expected.to_lowercase()), "{seen}");
    }
}

#[test]
fn problems_of_options_are_told() {
    for (entries, message) in [
        (&[("schema_registry", "localhost:8081")][..], "is no address"),
        (&[("schema_registry", "ftp://x")], "is not `http://` or `https://`"),
        (&[("schema_registry", "http://a:b@x")], "credentials do not belong in it"),
        (&[("schema_registry", "http://x"), ("schema_registry_username", "a")], "it is not clear who asks"),
        (&[("schema_registry_token", "a")], "there are credentials, and no schema registry"),
    ] {
        let (options, messages) = options(entries);
        assert!(messages.iter().any(|found| found.contains(message)), "{entries:?}: {messages:?}");
        assert!(options.is_none() || entries.len() == 2);
    }
}
