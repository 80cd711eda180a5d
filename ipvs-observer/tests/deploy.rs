//! Everything in docs/deploy/ is read by a real parser of its kind, and every command line and setting in it by the
//! program's own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use clap::{Arg, Command, Parser};
use dockerfile_parser::{Dockerfile, Instruction};
use ipvs_observer::cli::{self, Cli};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Container, PodSpec},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

const PROGRAM: &str = "/usr/bin/ipvs-observer";
const SOCKET: &str = "unix:///run/ipvs-observer/telegraf.sock";

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/deploy")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the program makes of a command line, which it must take.
fn taken(line: &[String]) {
    let (program, args) = line.split_first().expect("a command");
    assert_eq!(program, PROGRAM, "{line:?}");
    if let Err(error) = Cli::try_parse_from(
        ["ipvs-observer"]
            .into_iter()
            .chain(args.iter().map(String::as_str)),
    ) {
        panic!("{line:?}: {error}");
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn collect() -> Command {
    cli::definition()
        .find_subcommand("collect")
        .expect("the verb")
        .clone()
}

fn flag(variable: &str) -> Arg {
    collect()
        .get_arguments()
        .find(|flag| flag.get_env().is_some_and(|name| name == variable))
        .unwrap_or_else(|| panic!("{variable} is of no flag of collect"))
        .clone()
}

/// A setting as the program would take it from the environment.
fn set(variable: &str, value: &str) {
    let flag = flag(variable);
    let long = flag.get_long().expect("a flag");
    if flag.get_action().takes_values() {
        taken(&[
            PROGRAM.to_owned(),
            "collect".to_owned(),
            format!("--{long}={value}"),
        ]);
    } else {
        assert!(["true", "false"].contains(&value), "{variable}={value}");
    }
}

/// The values of a key in a unit, in order.
fn unit_values(unit: &str, key: &str) -> Vec<String> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_units_command_and_settings_are_taken() {
    let unit = read("systemd/ipvs-observer.service");
    for line in unit_values(&unit, "ExecStart") {
        taken(&words(&line));
    }
    let settings = unit_values(&unit, "Environment");
    assert_eq!(settings, [format!("IPVS_OBSERVER_OUTPUT={SOCKET}")]);
    for drop_in in [unit, read("systemd/netns.conf")] {
        for setting in unit_values(&drop_in, "Environment") {
            let (variable, value) = setting.split_once('=').expect("a setting");
            set(variable, value);
        }
    }
}

/// Flags that make no sense for a unit: it gathers until it is stopped and by the clock, reads the running kernel,
/// and may not load modules.
const NOT_FOR_A_UNIT: [&str; 5] = [
    "IPVS_OBSERVER_ONCE",
    "IPVS_OBSERVER_COUNT",
    "IPVS_OBSERVER_TRIGGER",
    "IPVS_OBSERVER_BTF",
    "IPVS_OBSERVER_LOAD_MODULE",
];

#[test]
fn the_units_settings_file_has_every_flag_with_its_default_or_an_example_that_is_taken() {
    let text = read("systemd/ipvs-observer.default");
    let mut present = BTreeSet::new();
    let mut above = "";
    for line in text.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "active: {line}");
        let setting = line
            .strip_prefix('#')
            .filter(|line| line.starts_with("IPVS_OBSERVER_"));
        if let Some((variable, value)) = setting.and_then(|setting| setting.split_once('=')) {
            set(variable, value);
            present.insert(variable.to_owned());
            let defaults = flag(variable).get_default_values().to_owned();
            if variable != "IPVS_OBSERVER_OUTPUT" && !defaults.is_empty() {
                assert_eq!(defaults, [value], "{variable}");
                assert!(!above.ends_with("An example:"), "{line}");
            }
        }
        above = line;
    }
    assert!(
        text.contains(&format!("\n#IPVS_OBSERVER_OUTPUT={SOCKET}\n")),
        "the unit's own default"
    );
    let wanted: BTreeSet<String> = collect()
        .get_arguments()
        .filter_map(|flag| flag.get_env()?.to_str().map(str::to_owned))
        .filter(|variable| !NOT_FOR_A_UNIT.contains(&variable.as_str()))
        .collect();
    assert_eq!(present, wanted);
}

/// A plugin's table in a configuration of Telegraf.
fn plugin(text: &str, name: &str) -> toml::Table {
    let table: toml::Table = text.parse().expect("TOML");
    let plugins = table["inputs"][name].as_array().expect("a list of plugins");
    assert_eq!(plugins.len(), 1);
    assert_eq!(plugins[0]["data_format"].as_str(), Some("influx"));
    plugins[0].as_table().expect("a table").clone()
}

/// A command of Telegraf's, which `sudo` runs, and which a line of the comment allows word for word.
fn allowed_and_taken(text: &str, command: &[String]) {
    let (sudo, own) = command.split_at(2);
    assert_eq!(sudo, ["sudo", "-n"]);
    taken(own);
    assert!(text.contains(&format!("#   telegraf ALL=(root) NOPASSWD: {}\n", own.join(" "))));
}

#[test]
fn telegrafs_snippets_are_toml_whose_commands_the_program_takes() {
    let listener = plugin(&read("telegraf/socket_listener.conf"), "socket_listener");
    assert_eq!(listener["service_address"].as_str(), Some(SOCKET));
    assert_eq!(listener["socket_mode"].as_str(), Some("660"));

    let text = read("telegraf/execd.conf");
    let execd = plugin(&text, "execd");
    let command: Vec<String> = execd["command"].clone().try_into().expect("words");
    allowed_and_taken(&text, &command);
    // Telegraf writes a newline where the program waits for one.
    assert_eq!(execd["signal"].as_str(), Some("STDIN"));
    assert!(command.ends_with(&["--trigger".to_owned(), "stdin".to_owned()]));

    let text = read("telegraf/exec.conf");
    let commands: Vec<String> = plugin(&text, "exec")["commands"]
        .clone()
        .try_into()
        .expect("commands");
    assert_eq!(commands.len(), 1);
    allowed_and_taken(&text, &words(&commands[0]));
    assert!(commands[0].ends_with("--once"));
}

/// A document as the API's own type. What the type does not know would be lost on the way back.
fn typed<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let typed: T = serde_json::from_value(document.clone()).expect("the type's fields");
    let back = serde_json::to_value(&typed).expect("a document");
    assert_eq!(&back, document, "misspelt, or of another version of the API");
    typed
}

fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).expect("YAML")
}

fn pod(set: DaemonSet) -> (PodSpec, Container) {
    let spec = set.spec.expect("a spec");
    let labels = spec.template.metadata.and_then(|metadata| metadata.labels);
    assert_eq!(
        spec.selector.match_labels, labels,
        "the selector finds its own pods"
    );
    let pod = spec.template.spec.expect("a pod");
    let container = pod.containers.first().expect("a container").clone();
    (pod, container)
}

/// Where a pod keeps what both sides of the socket see.
fn socket_folder(pod: &PodSpec) -> Option<String> {
    let volume = pod
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == "socket")?;
    Some(volume.host_path.as_ref()?.path.clone())
}

#[test]
fn the_daemon_set_is_one_and_its_pod_has_three_capabilities_and_no_more() {
    let documents = documents("kubernetes/ipvs-observer.yaml");
    let [document] = &documents[..] else {
        panic!("{} documents", documents.len());
    };
    let (pod, container) = pod(typed(document));
    let args = container.args.expect("arguments");
    taken(&[vec![PROGRAM.to_owned()], args.clone()].concat());
    assert!(args.contains(&format!("--output={SOCKET}")));
    let security = container.security_context.expect("a security context");
    let capabilities = security.capabilities.expect("capabilities");
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(
        capabilities.add,
        Some(["NET_ADMIN", "BPF", "PERFMON"].map(str::to_owned).to_vec())
    );
    assert_eq!(security.run_as_user, Some(0), "nobody else would get them");
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.privileged, None);
    assert_eq!(pod.host_network, Some(true));
    assert_eq!((pod.host_pid, pod.host_users), (None, None));
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(socket_folder(&pod).as_deref(), Some("/run/ipvs-observer"));
}

#[test]
fn telegrafs_pod_listens_where_the_observer_writes() {
    let documents = documents("kubernetes/telegraf.yaml");
    let [config, set] = &documents[..] else {
        panic!("{} documents", documents.len());
    };
    let config: ConfigMap = typed(config);
    let (pod, container) = pod(typed(set));
    let text = &config.data.expect("files")["telegraf.conf"];
    let listener = plugin(text, "socket_listener");
    assert_eq!(listener["service_address"].as_str(), Some(SOCKET));
    assert_eq!(socket_folder(&pod).as_deref(), Some("/run/ipvs-observer"));
    let mounts = container.volume_mounts.expect("mounts");
    assert!(
        mounts
            .iter()
            .any(|mount| mount.name == "socket" && mount.mount_path == "/run/ipvs-observer")
    );
    let variables: Vec<String> = container
        .env
        .expect("variables")
        .into_iter()
        .map(|one| one.name)
        .collect();
    for variable in text.split('$').skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(
            variables.iter().any(|name| name == variable),
            "{variable} is not set"
        );
    }
}

#[test]
fn the_images_are_of_this_version_and_start_what_the_program_takes() {
    let version = env!("CARGO_PKG_VERSION");
    let file = Dockerfile::parse(&read("container/Containerfile")).expect("a Containerfile");
    let mut targets = Vec::new();
    for stage in file.stages().stages {
        let mut command = Vec::new();
        for instruction in &stage.instructions {
            match instruction {
                Instruction::Arg(arg) => {
                    assert_eq!(
                        arg.value.as_ref().map(|value| value.content.as_str()),
                        Some(version)
                    );
                }
                Instruction::Entrypoint(entry) => {
                    command = entry.as_exec().expect("no shell is in the image").as_str_vec();
                }
                Instruction::Cmd(args) => {
                    command.extend(args.as_exec().expect("no shell is in the image").as_str_vec());
                }
                _ => {}
            }
        }
        if !command.is_empty() {
            taken(&command.iter().map(ToString::to_string).collect::<Vec<_>>());
            targets.push(stage.name);
        }
    }
    assert_eq!(
        targets,
        [Some("nonroot".to_owned()), None],
        "the last is what is built by default"
    );
    assert!(read("kubernetes/ipvs-observer.yaml").contains(&format!("image: ipvs-observer:{version}\n")));
}

#[test]
fn the_page_names_every_file_beside_it() {
    let page = read("README.md");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy");
    for room in ["systemd", "telegraf", "container", "kubernetes"] {
        for entry in fs::read_dir(folder.join(room)).expect("the folder") {
            let name = entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned();
            assert!(page.contains(&format!("({room}/{name})")), "{room}/{name}");
        }
    }
}
