//! A real InfluxDB on loopback, with its files in a temporary folder: Debian's package `influxdb` gives `influxd`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use super::lines::{Line, Value};

pub struct Influx {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

/// What a query gave for one series: its tags, and its rows by column.
pub struct Series {
    pub name: String,
    pub tags: BTreeMap<String, String>,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Json>>,
}

impl Influx {
    pub fn start() -> Self {
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

    pub fn query(&self, query: &str) -> Json {
        let response = ureq::post(self.url("query?db=t&epoch=ns"))
            .config()
            .http_status_as_error(false)
            .build()
            .send_form([("q", query)]);
        let text = response
            .expect("an answer")
            .body_mut()
            .with_config()
            .limit(1 << 28)
            .read_to_string();
        serde_json::from_str(&text.expect("text")).expect("JSON")
    }

    /// The series that a query gives; what the server has against it is an error.
    pub fn series(&self, query: &str) -> Result<Vec<Series>, String> {
        let answer = self.query(query);
        for error in [&answer["error"], &answer["results"][0]["error"]] {
            if let Some(error) = error.as_str() {
                return Err(error.to_owned());
            }
        }
        let series = answer["results"][0]["series"].as_array();
        Ok(series.into_iter().flatten().map(read_series).collect())
    }

    pub fn write(&self, lines: &str) {
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
    pub fn stored(&self, measurement: &str) -> Vec<Line> {
        let query = format!("SELECT * FROM \"{measurement}\" GROUP BY *");
        let mut lines = Vec::new();
        for mut series in self.series(&query).expect("a query of everything") {
            // A tag that only other series have is listed as empty.
            series.tags.retain(|_, value| !value.is_empty());
            for row in &series.rows {
                let fields = series
                    .columns
                    .iter()
                    .zip(row)
                    .skip(1)
                    .filter_map(|(key, json)| Some((key.clone(), field(json)?)));
                lines.push(Line {
                    measurement: measurement.to_owned(),
                    tags: series.tags.clone(),
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

fn read_series(json: &Json) -> Series {
    let tags = json["tags"].as_object();
    Series {
        name: json["name"].as_str().unwrap_or_default().to_owned(),
        tags: tags
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
        columns: array(&json["columns"]).iter().map(text).collect(),
        rows: array(&json["values"])
            .iter()
            .map(|row| array(row).clone())
            .collect(),
    }
}

fn array(json: &Json) -> &Vec<Json> {
    json.as_array().expect("an array")
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
pub fn as_stored(mut line: Line) -> Line {
    for value in line.fields.values_mut() {
        if let Value::Float(number) = value
            && number.fract() == 0.0
        {
            *value = Value::Signed(format!("{number}").parse().expect("a whole number"));
        }
    }
    line
}
