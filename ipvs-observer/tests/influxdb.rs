//! Every line that this program writes is taken by a real InfluxDB and read back unchanged.
//!
//! Debian's package `influxdb` gives `influxd`; it runs on loopback with its files in a temporary folder. That
//! version has no unsigned type: lines with `u` are judged by the strict reader in `support` alone.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    line::Encoder,
    points::{Observer, Points, ProbeHealth, Schema, Status},
};
use serde_json::Value as Json;
use support::lines::{self, Line, Value};

struct Influx {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Influx {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("its address").port()
        };
        let (http, rpc) = (port(), port());
        let root = folder.path().display();
        let configuration = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
             [meta]\ndir = \"{root}/meta\"\n\
             [data]\ndir = \"{root}/data\"\nwal-dir = \"{root}/wal\"\n\
             [http]\nbind-address = \"127.0.0.1:{http}\"\nlog-enabled = false\n\
             [monitor]\nstore-enabled = false\n"
        );
        let path = folder.path().join("influxdb.conf");
        fs::write(&path, configuration).expect("its configuration");
        let process = Command::new("influxd")
            .arg("-config")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("influxd, which Debian's package influxdb has: `cargo xtask test` installs it");
        let mut influx = Self {
            process,
            port: http,
            _folder: folder,
        };
        let errors = influx.process.stderr.take().expect("piped");
        // A pipe that nobody empties would stop the server.
        thread::spawn(move || {
            BufReader::new(errors)
                .lines()
                .map_while(Result::ok)
                .for_each(drop);
        });
        let begin = Instant::now();
        while ureq::get(influx.url("ping")).call().is_err() {
            assert!(
                begin.elapsed() < Duration::from_mins(1),
                "influxd does not answer"
            );
            thread::sleep(Duration::from_millis(100));
        }
        influx.query("CREATE DATABASE t");
        influx
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn query(&self, query: &str) -> Json {
        let response = ureq::post(self.url("query?db=t&epoch=ns")).send_form([("q", query)]);
        let text = response
            .expect("an answer")
            .body_mut()
            .with_config()
            .limit(1 << 28)
            .read_to_string();
        serde_json::from_str(&text.expect("text")).expect("JSON")
    }

    fn write(&self, lines: &str) {
        let answer = ureq::post(self.url("write?db=t"))
            .config()
            .http_status_as_error(false)
            .build()
            .send(lines);
        let mut answer = answer.expect("an answer");
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        assert_eq!(answer.status(), 204, "{said}");
    }

    /// Everything stored of a measurement.
    fn stored(&self, measurement: &str) -> Vec<Line> {
        let answer = self.query(&format!("SELECT * FROM \"{measurement}\" GROUP BY *"));
        let series = answer["results"][0]["series"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut lines = Vec::new();
        for series in series {
            let columns: Vec<_> = series["columns"]
                .as_array()
                .expect("columns")
                .iter()
                .map(text)
                .collect();
            let tags = series["tags"].as_object().cloned().unwrap_or_default();
            // A tag that only other series have is listed as empty.
            let tags: BTreeMap<_, _> = tags
                .iter()
                .map(|(key, value)| (key.clone(), text(value)))
                .filter(|tag| !tag.1.is_empty())
                .collect();
            for row in series["values"].as_array().expect("values") {
                let row = row.as_array().expect("a row");
                let fields = columns
                    .iter()
                    .zip(row)
                    .skip(1)
                    .filter_map(|(key, json)| Some((key.clone(), field(json)?)));
                lines.push(Line {
                    measurement: measurement.to_owned(),
                    tags: tags.clone(),
                    fields: fields.collect(),
                    timestamp: row[0].as_u64().expect("a time"),
                });
            }
        }
        lines
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(json: &Json) -> String {
    json.as_str().expect("text").to_owned()
}

fn field(json: &Json) -> Option<Value> {
    match json {
        Json::Null => None,
        Json::Bool(value) => Some(Value::Boolean(*value)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Number(number) => Some(
            number
                .as_i64()
                .map_or_else(|| Value::Float(number.as_f64().expect("a number")), Value::Signed),
        ),
        other => panic!("{other:?}"),
    }
}

/// Whole floats come back as integers: JSON does not tell them apart.
fn as_stored(mut line: Line) -> Line {
    for value in line.fields.values_mut() {
        if let Value::Float(number) = value
            && number.fract() == 0.0
        {
            *value = Value::Signed(format!("{number}").parse().expect("a whole number"));
        }
    }
    line
}

fn assert_comes_back(influx: &Influx, text: &str) {
    influx.write(text);
    let mut sent: BTreeMap<(String, u64), Line> = BTreeMap::new();
    for line in lines::parse(text) {
        let line = as_stored(line);
        assert!(
            sent.insert((line.series(), line.timestamp), line.clone())
                .is_none(),
            "twice: {line:?}"
        );
    }
    let measurements: std::collections::BTreeSet<_> =
        sent.values().map(|line| line.measurement.clone()).collect();
    let mut stored = BTreeMap::new();
    for measurement in measurements {
        for line in influx.stored(&measurement) {
            stored.insert((line.series(), line.timestamp), line);
        }
        influx.query(&format!("DROP MEASUREMENT \"{measurement}\""));
    }
    for (key, line) in &sent {
        assert_eq!(stored.get(key), Some(line), "sent and not stored so");
    }
    assert_eq!(stored.len(), sent.len());
}

fn golden() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("golden files")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(path).expect("text"),
            )
        })
        .collect()
}

fn observer_lines() -> String {
    let mut encoder = Encoder::new(false);
    let observer = Observer {
        status: Status::Degraded,
        reason: "a \"reason\" with \\ and, all that = is special\tin a line".to_owned(),
        gather_ns: u64::MAX,
        probes: Some(ProbeHealth::default()),
        ..Observer::default()
    };
    for (at, netns) in [
        None,
        Some("blue, green=red\\".to_owned()),
        Some("Zürich\nnorth".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        Points::new(Schema::Full, netns).observer(
            &mut encoder,
            &observer,
            1_700_000_000_000_000_000 + at as u64,
        );
    }
    String::from_utf8(encoder.take().to_vec()).expect("text")
}

#[test]
fn every_line_is_stored_and_comes_back_unchanged() {
    let influx = Influx::start();
    let files = golden();
    assert!(
        files.len() >= 10,
        "golden files of both schemas for every kernel: {}",
        files.len()
    );
    for (name, text) in files {
        println!("{name}");
        assert_comes_back(&influx, &text);
    }
    assert_comes_back(&influx, &observer_lines());
}
