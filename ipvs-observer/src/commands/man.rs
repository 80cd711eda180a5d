//! `man`: the manual pages, one of the program and one of each verb.
//!
//! Owns: what clap cannot know of a page: what the program needs, touches and answers. Refuses to know: the flags.
//! They are rendered from their one definition.

use std::{
    env, io,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Arg;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use crate::cli::{self, PageArg};

/// The manual's section: administration.
const SECTION: &str = "8";

/// A section of a page.
type Section = (&'static str, &'static [Block]);

/// What a section is made of.
enum Block {
    /// A paragraph.
    Text(&'static str),
    /// A term and what it means.
    Term(&'static str, &'static str),
    /// Lines as they are typed or written.
    Verbatim(&'static str),
}
use Block::{Term, Text, Verbatim};

/// Writes a page to standard output.
///
/// # Errors
/// The output cannot be written.
pub fn run(page: Option<PageArg>) -> anyhow::Result<()> {
    super::print(&render(page)?)
}

fn render(page: Option<PageArg>) -> anyhow::Result<Vec<u8>> {
    let mut program = cli::definition()
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND");
    program.build();
    let command = match page {
        None => program,
        Some(page) => program
            .find_subcommand(page.verb())
            .cloned()
            .with_context(|| format!("no verb {}", page.verb()))?,
    };
    let own = match page {
        None => PROGRAM,
        Some(PageArg::Collect) => COLLECT,
        Some(PageArg::Trace) => TRACE,
        Some(PageArg::Check) => CHECK,
    };
    let man = Man::new(command.mut_args(values_in_words))
        .section(SECTION)
        .date(date())
        .source(concat!("ipvs-observer ", env!("CARGO_PKG_VERSION")))
        .manual("System Administration");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    let (description, others) = own.split_at(1);
    write_sections(description, &mut text)?;
    if page.is_none() {
        man.render_subcommands_section(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    write_sections(others, &mut text)?;
    Ok(text)
}

/// A flag's values as part of its sentence: as a list they take a line each and say nothing more.
fn values_in_words(flag: Arg) -> Arg {
    let values: Vec<_> = flag
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    let Some(help) = flag
        .get_help()
        .filter(|_| values.len() > 1 && flag.get_action().takes_values())
    else {
        return flag;
    };
    let help = format!("{help}. One of {}.", values.join(", "));
    flag.help(help).hide_possible_values(true)
}

fn write_sections(sections: &[Section], text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    for (title, blocks) in sections {
        roff.control("SH", [*title]);
        write_blocks(&mut roff, blocks);
    }
    roff.to_writer(text)
}

/// The day that builders of packages set for reproducible pages; without it a page has none.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    epoch.map_or_else(String::new, |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let written = humantime::format_rfc3339(time).to_string();
        written.chars().take("2026-01-01".len()).collect()
    })
}

fn write_blocks(roff: &mut Roff, blocks: &[Block]) {
    for (index, block) in blocks.iter().enumerate() {
        match block {
            Text(text) => {
                // A heading begins a paragraph of its own.
                if index > 0 {
                    roff.control("PP", []);
                }
                roff.text(inline(text));
            }
            Term(term, text) => {
                roff.control("TP", []);
                roff.text([bold(*term)]);
                roff.text(inline(text));
            }
            Verbatim(lines) => {
                roff.control("PP", []);
                roff.control("RS", ["4"]);
                roff.control("nf", []);
                for line in lines.lines() {
                    roff.text([roman(line)]);
                }
                roff.control("fi", []);
                roff.control("RE", []);
            }
        }
    }
}

/// What stands between backticks is bold.
fn inline(text: &str) -> Vec<Inline> {
    text.split('`')
        .enumerate()
        .filter(|(_, part)| !part.is_empty())
        .map(|(index, part)| if index % 2 == 1 { bold(part) } else { roman(part) })
        .collect()
}

const EXIT_STATUS: Section = (
    "EXIT STATUS",
    &[
        Term(
            "0",
            "Done. Also on SIGTERM, SIGINT, a closed pipe, and the end of standard input under `--trigger stdin`.",
        ),
        Term("1", "Failed at run time; `check`: something is missing."),
        Term("2", "Wrong usage: nothing was started."),
    ],
);

const ENVIRONMENT: Section = (
    "ENVIRONMENT",
    &[Text(
        "Each flag has a variable that sets it, named under the flag. A flag on the command line comes before its \
         variable. Where a flag is repeatable, the variable takes several values with commas between them; flags \
         without a value take true or false. An empty variable counts as unset. A value that only another verb takes \
         is ignored, one that no verb takes is wrong usage, and a name that is no setting is warned of.",
    )],
);

const PROGRAM: &[Section] = &[
    (
        "DESCRIPTION",
        &[
            Text(
                "Linux Virtual Server (IPVS) spreads connections over real servers inside the kernel. `ipvs-observer` \
                 reads what IPVS tells over netlink and watches its scheduler with eBPF probes. It only reads: no \
                 table is ever changed, and the module is loaded only under `--load-module`.",
            ),
            Text(
                "What a kernel or its privileges do not allow is a state and no failure: it is said once on standard \
                 error with its remedy, stands in the measurement ipvs_observer at every gather, and ends by itself \
                 when the thing comes back. `ipvs-observer check` lists it.",
            ),
        ],
    ),
    (
        "PRIVILEGES",
        &[
            Term(
                "CAP_NET_ADMIN",
                "To read the table, in the initial user namespace. Without it there are totals only.",
            ),
            Term(
                "CAP_BPF, CAP_PERFMON",
                "To attach the probes. Without them netlink is all there is, and `trace` cannot run.",
            ),
            Text(
                "Root has them. The unit gives them to a user of its own; for a user of yours: `setcap \
                 cap_net_admin,cap_bpf,cap_perfmon+ep /usr/bin/ipvs-observer`. Linux before 5.8 knows neither \
                 CAP_BPF nor CAP_PERFMON.",
            ),
            Text(
                "Where kernel.perf_event_paranoid is 3, as Debian's kernels set it, CAP_PERFMON may not attach probes: \
                 `sysctl kernel.perf_event_paranoid=2`, or CAP_SYS_ADMIN. What is not needed is given up: \
                 `--privileges`.",
            ),
        ],
    ),
    EXIT_STATUS,
    ENVIRONMENT,
    (
        "FILES",
        &[
            Term(
                "/etc/default/ipvs-observer",
                "The unit's settings, as variables of the environment.",
            ),
            Term(
                "/usr/lib/systemd/system/ipvs-observer.service",
                "The unit: `collect`, as user ipvs-observer. Changes belong into `systemctl edit ipvs-observer`.",
            ),
            Term(
                "/sys/kernel/btf/",
                "The running kernel's types: vmlinux, ip_vs and its schedulers. The probes read structures at \
                 offsets from there.",
            ),
            Term("/run/netns/", "Network namespaces that have a name."),
            Term(
                "/usr/share/doc/ipvs-observer/",
                "Every measurement with unit and source; configuration for Telegraf; deployment.",
            ),
        ],
    ),
    (
        "DIAGNOSTICS",
        &[Text(
            "Messages go to standard error and say the consequence and the remedy. Where that is no terminal, each \
             is one line that begins with its level as Telegraf reads it: `E!`, `W!`, `I!` or `D!`.",
        )],
    ),
    (
        "EXAMPLES",
        &[
            Text("What this machine allows, and one gather:"),
            Verbatim("ipvs-observer check\nipvs-observer collect --once"),
            Text("Into Telegraf's socket_listener, as the unit does:"),
            Verbatim("ipvs-observer collect --output unix:///run/telegraf/ipvs.sock"),
            Text("Why did it choose that one:"),
            Verbatim("ipvs-observer trace --service tcp://10.0.0.1:80 --explain"),
        ],
    ),
    (
        "SEE ALSO",
        &[Text(
            "`ipvs-observer-collect`(8), `ipvs-observer-trace`(8), `ipvs-observer-check`(8), `ipvsadm`(8), \
             `capabilities`(7), `network_namespaces`(7), `systemctl`(1)",
        )],
    ),
];

const COLLECT: &[Section] = &[
    (
        "DESCRIPTION",
        &[
            Text(
                "Each gather writes InfluxDB line protocol: a line for every virtual server, followed by those of \
                 its real servers (ipvs_virtual_server, ipvs_real_server), the totals of the namespace (ipvs), \
                 configuration changes (ipvs_change), and the program's own state (ipvs_observer). All points of a \
                 gather carry one timestamp.",
            ),
            Text(
                "An output that is away or slow delays neither the gather nor another output: its lines wait, as \
                 many as `--backlog` holds, and what is dropped is counted in ipvs_observer.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            Term("SIGTERM, SIGINT", "End within a second, with whole lines."),
            Term(
                "SIGHUP, SIGUSR1, SIGUSR2",
                "Gather, where `--trigger` says so. A burst while a gather runs gives one more.",
            ),
        ],
    ),
    EXIT_STATUS,
    ENVIRONMENT,
    (
        "EXAMPLES",
        &[
            Text("Two services, every second, to two places:"),
            Verbatim(
                "ipvs-observer collect --interval 1s \\\n    --service tcp://10.0.0.1:80 --service fwmark:47 \\\n    \
                 --output stdout --output unix:///run/telegraf/ipvs.sock",
            ),
            Text("For Telegraf's inputs.execd with signal = \"STDIN\", in the series of its inputs.ipvs:"),
            Verbatim("ipvs-observer collect --trigger stdin --schema telegraf"),
        ],
    ),
    ("SEE ALSO", &[Text("`ipvs-observer`(8), `ipvsadm`(8)")]),
];

const TRACE: &[Section] = &[
    (
        "DESCRIPTION",
        &[
            Text(
                "A line a decision: time, service, scheduler, client, the destination with its weight and connections \
                 as they were, how long the scheduler took, and why; and a line a configuration change with the \
                 process that made it. Events leave the kernel only while somebody traces.",
            ),
            Text(
                "What could not be handed over is reported in the stream and counted at the end. A larger `--ring` \
                 holds more of a burst; `--service` and the other filters keep events out of it.",
            ),
        ],
    ),
    EXIT_STATUS,
    ENVIRONMENT,
    (
        "EXAMPLES",
        &[
            Text("The next ten decisions for clients of a network, as JSON:"),
            Verbatim("ipvs-observer trace --client 10.1.0.0/16 --count 10 --format json"),
        ],
    ),
    ("SEE ALSO", &[Text("`ipvs-observer`(8), `ipvsadm`(8)")]),
];

const CHECK: &[Section] = &[
    (
        "DESCRIPTION",
        &[Text(
            "A row a need: its state, what follows, and the remedy. The answer is for whoever runs it: run it with \
             the privileges of what it is to explain.",
        )],
    ),
    EXIT_STATUS,
    ENVIRONMENT,
    (
        "EXAMPLES",
        &[
            Text("As the unit sees it:"),
            Verbatim(
                "systemd-run --pipe --uid=ipvs-observer \\\n    \
                 --property=AmbientCapabilities='CAP_NET_ADMIN CAP_BPF CAP_PERFMON' ipvs-observer check",
            ),
        ],
    ),
    ("SEE ALSO", &[Text("`ipvs-observer`(8)")]),
];
