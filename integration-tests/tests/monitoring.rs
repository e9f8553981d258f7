//! What a daemon tells over HTTP, and that Prometheus understands it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{
    Bessemer, KafkaCluster, Listening, Pipeline, listened, percent_encoded, repository, wait_until,
};
use serde_json::Value;

const PARTITIONS: i32 = 3;

/// A pipeline that looks once, when it starts, and then for an hour no more: what comes meanwhile is its lag.
fn pipeline(cluster: &KafkaCluster) -> Result<Pipeline> {
    Pipeline::new(&format!(
        "CREATE PIPELINE readings; SET epoch_age_max = '1h';
         CREATE SOURCE readings (number BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL,
             WATERMARK FOR at AS at - INTERVAL '1 minute')
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'readings', format = 'json');
         CREATE FEATURE SET seen (CONSTRAINT not_unlucky EXPECT (number % 13 <> 0) ON VIOLATION QUARANTINE)
         WITH (path = 'features/seen') AS SELECT number, at FROM readings WHERE number < 1000;",
        cluster.bootstrap_servers()
    ))
}

/// Sends `counts` records to the partitions; one second of event time lies between two of them, one in ten is broken.
fn send(cluster: &KafkaCluster, counts: [i64; PARTITIONS as usize]) -> Result<()> {
    for (partition, count) in (0..).zip(counts) {
        let record = |number: i64| match number % 10 {
            7 => "no JSON".to_owned(),
            _ => format!(r#"{{"number": {number}, "at": "2013-01-01T00:{:02}:{:02}Z"}}"#, number / 60, number % 60),
        };
        cluster.send("readings", partition, (0..count).map(record))?;
    }
    Ok(())
}

fn daemon(bessemer: &Bessemer, pipeline: &Pipeline, address: &str) -> Result<Listening> {
    let child = bessemer.start_listening(["daemon", &pipeline.path(), "--listen", address])?;
    let daemon = Listening::wait(child, "listening url=http://")?;
    wait_until("the daemon is ready", || Ok(daemon.get("/readyz")?.0 == 200))?;
    Ok(daemon)
}

/// The samples of a metric, by their labels as they are written.
fn samples(daemon: &Listening, metric: &str) -> Result<BTreeMap<String, f64>> {
    let (status, text) = daemon.get("/metrics")?;
    ensure!(status == 200, "{status}: {text}");
    let lines = text.lines().filter_map(|line| line.strip_prefix(metric)).filter(|rest| rest.starts_with(['{', ' ']));
    let parse = |line: &str| {
        let (labels, value) = line.rsplit_once(' ').context("no value")?;
        Ok((labels.to_owned(), value.parse()?))
    };
    lines.map(parse).collect()
}

/// The sum of those samples whose labels contain `labels`, which is whole.
fn sum(daemon: &Listening, metric: &str, labels: &str) -> Result<i64> {
    let samples = samples(daemon, metric)?;
    let of = samples.iter().filter(|(found, _)| found.contains(labels));
    Ok(format!("{}", of.map(|(_, value)| value).sum::<f64>()).parse()?)
}

/// What the brokers have beyond what the newest manifest has.
fn true_lag(bessemer: &Bessemer, pipeline: &Pipeline, cluster: &KafkaCluster) -> Result<Vec<i64>> {
    let manifest = bessemer.json(["inspect", &pipeline.path()])?;
    let ranges = manifest["slice"]["readings"]["ranges"].as_array();
    let ranges = ranges.with_context(|| format!("no ranges: {manifest:#}"))?;
    let mut lag = cluster.ends("readings", PARTITIONS)?;
    for range in ranges {
        let partition = usize::try_from(range["partition"].as_i64().context("no partition")?)?;
        lag[partition] -= range["end"].as_i64().context("no end")?;
    }
    Ok(lag)
}

#[test]
fn a_daemon_tells_its_lag_what_became_of_rows_and_whether_it_is_ready() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("readings", PARTITIONS)?;
    let pipeline = pipeline(&cluster)?;
    send(&cluster, [40, 20, 0])?;
    let first = daemon(&bessemer, &pipeline, "127.0.0.1:0")?;
    wait_until("the first records are committed", || {
        Ok(sum(&first, "bessemer_source_records_total", "")? == 60 && sum(&first, "bessemer_epochs_total", "")? == 1)
    })?;
    assert_eq!(sum(&first, "bessemer_source_lag_records", "")?, 0);
    let of = |fate: &str| sum(&first, "bessemer_source_records_total", &format!("fate=\"{fate}\""));
    assert_eq!((of("admitted")?, of("undecodable")?), (54, 6));
    // 0, 13 and 26 of the first partition, 0 and 13 of the second.
    let of = |fate: &str| sum(&first, "bessemer_set_rows_total", &format!("fate=\"{fate}\""));
    assert_eq!((of("written")?, of("quarantined")?, of("dropped")?), (48, 6, 0));
    assert_eq!(sum(&first, "bessemer_expectation_violations_total", "not_unlucky")?, 6);
    // 2013-01-01T00:00:39Z, and nothing is behind it.
    assert_eq!(sum(&first, "bessemer_source_event_time_seconds", "")?, 1_356_998_439);
    assert_eq!(sum(&first, "bessemer_source_event_time_lag_seconds", "")?, 0);

    // The port is taken.
    let second = bessemer.call(["daemon", &pipeline.path(), "--listen", &first.address])?;
    second.expect_code(2)?;
    assert!(second.stderr.contains("the port is in use: stop what has it"), "{}", second.stderr);

    // A file that cannot be run makes it unready, and is named.
    let broken = pipeline.folder().join("broken");
    std::fs::create_dir(&broken)?;
    std::fs::write(broken.join("p.sql"), "CREATE NOTHING;")?;
    wait_until("the broken file is seen", || {
        let (status, reasons) = first.get("/readyz")?;
        Ok(status == 503 && reasons.contains("broken: is not started"))
    })?;
    let summary: Value = serde_json::from_str(&first.get("/")?.1)?;
    assert_eq!(summary["pipelines"][0]["state"], "running");
    std::fs::remove_dir_all(&broken)?;
    wait_until("it is ready again", || Ok(first.get("/readyz")?.0 == 200))?;
    let (status, text) = first.stop()?;
    assert_eq!(status.code(), Some(0), "{text}");

    // What comes while it is stopped is there at once when it is started again.
    send(&cluster, [0, 5, 0])?;
    let third = daemon(&bessemer, &pipeline, "127.0.0.1:0")?;
    wait_until("the rest is committed", || Ok(sum(&third, "bessemer_source_records_total", "")? == 5))?;
    assert_eq!(sum(&third, "bessemer_source_lag_records", "")?, 0);
    // What was committed by the daemon before is still the newest.
    assert_eq!(sum(&third, "bessemer_source_event_time_seconds", "")?, 1_356_998_439);

    // While it is paused its lag grows, and that is no trouble.
    bessemer.call(["pause", &pipeline.path()])?.expect_code(0)?;
    wait_until("it is paused", || Ok(sum(&third, "bessemer_pipeline_state", "paused")? == 1))?;
    send(&cluster, [3, 4, 0])?;
    wait_until("the lag is seen", || Ok(sum(&third, "bessemer_source_lag_records", "")? == 7))?;
    assert_eq!(third.get("/readyz")?.0, 200);
    Ok(())
}

#[test]
fn a_daemon_is_not_ready_before_its_brokers_answer() -> Result<()> {
    let bessemer = Bessemer::find()?;
    // Somebody listens there, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE p;
         CREATE SOURCE s (x BIGINT) WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 't', format = 'json',
             broker_timeout = '1s');
         CREATE FEATURE SET f WITH (path = 'f') AS SELECT x FROM s;",
        silent.local_addr()?
    ))?;
    let child = bessemer.start_listening(["daemon", &pipeline.path(), "--listen", "127.0.0.1:0"])?;
    let daemon = Listening::wait(child, "listening url=http://")?;
    wait_until("the pipeline backs off", || {
        let (status, reasons) = daemon.get("/readyz")?;
        assert_eq!(status, 503, "{reasons}");
        Ok(reasons.contains("p: is tried again: "))
    })?;
    assert_eq!(daemon.get("/healthz")?, (200, "ok\n".to_owned()));
    assert_eq!(sum(&daemon, "bessemer_pipeline_state", "backing_off")?, 1);
    assert!(sum(&daemon, "bessemer_pipeline_restarts_total", "")? >= 1);
    Ok(())
}

/// The spans that are posted to `collector`, until one is `last`.
fn collect(collector: &TcpListener, last: &str) -> Result<Vec<Value>> {
    let mut spans: Vec<Value> = Vec::new();
    while !spans.iter().any(|span| span["name"] == last) {
        let mut stream = BufReader::new(collector.accept()?.0);
        let (mut head, mut length) = (String::new(), 0);
        while stream.read_line(&mut head)? > 2 {
            let line = head.lines().last().unwrap_or_default().to_lowercase();
            if let Some(found) = line.strip_prefix("content-length:") {
                length = found.trim().parse()?;
            }
        }
        ensure!(head.starts_with("POST /v1/traces "), "{head}");
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
        let body: Value = serde_json::from_slice(&body)?;
        let found = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().context("no spans")?;
        spans.extend(found.iter().cloned());
    }
    Ok(spans)
}

#[test]
fn a_daemon_logs_json_and_sends_a_trace_of_each_epoch() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("readings", PARTITIONS)?;
    let pipeline = pipeline(&cluster)?;
    send(&cluster, [20, 0, 0])?;
    let collector = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", collector.local_addr()?);
    let arguments = ["--listen", "127.0.0.1:0", "--log-format", "json", "--otlp-endpoint", &endpoint];
    let child = bessemer.start_listening(["daemon", &pipeline.path()].into_iter().chain(arguments))?;
    let daemon = Listening::wait(child, "\"url\":\"http://")?;
    let spans = collect(&collector, "epoch")?;
    let (status, said) = daemon.stop()?;
    assert_eq!(status.code(), Some(0), "{said}");

    let lines = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().context(said.clone())?;
    let committed = lines.iter().find(|line| line["message"] == "committed").context(said)?;
    assert_eq!((&committed["epoch"], &committed["records"], &committed["rows"]), (&2.into(), &20.into(), &16.into()));
    assert_eq!(committed["spans"][0]["pipeline"], "readings");

    let named = |name: &str| spans.iter().find(|span| span["name"] == name).context("no such span");
    let (epoch, set, commit) = (named("epoch")?, named("set")?, named("commit")?);
    assert_eq!((&set["parentSpanId"], &commit["parentSpanId"]), (&epoch["spanId"], &epoch["spanId"]));
    assert_eq!((&set["traceId"], &epoch["parentSpanId"]), (&epoch["traceId"], &Value::from("")));
    let attribute = serde_json::json!({ "key": "pipeline.pipeline", "value": { "stringValue": "readings" } });
    assert!(epoch["attributes"].as_array().is_some_and(|all| all.contains(&attribute)), "{epoch}");
    Ok(())
}

/// A Prometheus that scrapes `address` often, with its data in `folder`.
fn prometheus(programs: &Path, folder: &Path, address: &str) -> Result<Listening> {
    let config = folder.join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "scrape_configs: [{{job_name: bessemer, scrape_interval: 100ms, scrape_timeout: 100ms,
               static_configs: [{{targets: ['{address}']}}]}}]"
        ),
    )?;
    let mut command = Command::new(programs.join("prometheus"));
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg("--web.listen-address=127.0.0.1:0");
    let prometheus = Listening::wait(listened(&mut command)?, "msg=\"Listening on\" address=")?;
    wait_until("Prometheus is ready", || Ok(prometheus.get("/-/ready")?.0 == 200))?;
    Ok(prometheus)
}

/// Gives `input` to `promtool check WHAT`, which must have nothing to say.
fn check(programs: &Path, what: &str, input: &str) -> Result<()> {
    let mut command = Command::new(programs.join("promtool"));
    let mut child =
        command.args(["check", what]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n");
    ensure!(output.status.success(), "promtool check {what}: {said}");
    Ok(())
}

/// What a query gives: labels and values.
fn query(prometheus: &Listening, expression: &str) -> Result<Vec<(Value, f64)>> {
    let (status, answer) = prometheus.get(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
    ensure!(status == 200, "{expression}: {answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    let results = answer["data"]["result"].as_array().context("no result")?;
    let parse = |result: &Value| {
        let value = result["value"][1].as_str().context("no value")?;
        Ok((result["metric"].clone(), value.parse()?))
    };
    results.iter().map(parse).collect()
}

/// Every expression of the dashboard, its variables filled in.
fn expressions() -> Result<Vec<String>> {
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(repository().join("docs/grafana-dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let filled = targets.filter_map(|target| target["expr"].as_str()).map(|expression| {
        expression.replace("$pipeline", ".*").replace("$job", ".*").replace("$__rate_interval", "10s")
    });
    let filled: Vec<_> = filled.collect();
    assert!(filled.len() > 20 && filled.iter().all(|expression| !expression.contains('$')), "{filled:?}");
    Ok(filled)
}

#[test]
fn prometheus_scrapes_the_truth_and_answers_every_question_of_the_dashboard() -> Result<()> {
    let Some(programs) = std::env::var_os("BESSEMER_TEST_PROMETHEUS").map(PathBuf::from) else {
        println!(
            "skipped: BESSEMER_TEST_PROMETHEUS names no folder with prometheus and promtool (`.ci/run` makes one)"
        );
        eprintln!("skipped: Prometheus (BESSEMER_TEST_PROMETHEUS is not set; `.ci/run` sets it)");
        return Ok(());
    };
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("readings", PARTITIONS)?;
    let pipeline = pipeline(&cluster)?;
    send(&cluster, [40, 20, 30])?;
    let first = daemon(&bessemer, &pipeline, "127.0.0.1:0")?;
    let address = first.address.clone();
    let folder = tempfile::tempdir()?;
    let prometheus = prometheus(&programs, folder.path(), &address)?;
    let scraped_lag = || -> Result<Vec<i64>> {
        let mut lag = vec![-1; PARTITIONS as usize];
        for (labels, value) in query(&prometheus, "bessemer_source_lag_records")? {
            let partition: usize = labels["partition"].as_str().context("no partition")?.parse()?;
            lag[partition] = format!("{value:.0}").parse()?;
        }
        Ok(lag)
    };
    wait_until("everything is committed", || Ok(scraped_lag()? == [0, 0, 0]))?;
    assert_eq!(true_lag(&bessemer, &pipeline, &cluster)?, [0, 0, 0]);

    // More comes, and the pipeline does not look: Prometheus has what the brokers say.
    send(&cluster, [1, 200, 30])?;
    assert_eq!(true_lag(&bessemer, &pipeline, &cluster)?, [1, 200, 30]);
    wait_until("the lag is scraped", || Ok(scraped_lag()? == [1, 200, 30]))?;
    let behind = query(&prometheus, "bessemer_source_event_time_lag_seconds > 300e6")?;
    assert_eq!(behind.len(), 1, "the newest event time is of 2013");
    check(&programs, "metrics", &first.get("/metrics")?.1)?;

    let (status, text) = first.stop()?;
    assert_eq!(status.code(), Some(0), "{text}");
    let second = daemon(&bessemer, &pipeline, &address)?;
    wait_until("the rest is committed", || Ok(scraped_lag()? == [0, 0, 0]))?;
    assert_eq!(true_lag(&bessemer, &pipeline, &cluster)?, [0, 0, 0]);
    for expression in expressions()? {
        wait_until(&format!("an answer to `{expression}`"), || Ok(!query(&prometheus, &expression)?.is_empty()))?;
    }
    check(&programs, "metrics", &second.get("/metrics")?.1)?;

    let page = std::fs::read_to_string(repository().join("docs/monitoring.md"))?;
    let (_, rules) = page.split_once("```yaml\ngroups:").context("no rules")?;
    let (rules, _) = rules.split_once("```").context("no end of the rules")?;
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, format!("groups:{rules}"))?;
    let checked = Command::new(programs.join("promtool")).args(["check", "rules"]).arg(&file).output()?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}
