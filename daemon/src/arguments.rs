//! The command line, listed once.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Decisions kept current by incremental dataflow, durable at every epoch.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a pipeline file: every mistake at once, each with its line. Then run its tests.
    Check(Check),
    /// Print the plan of a pipeline file.
    Explain(Explain),
    /// Print a source section for a data file.
    Infer(Infer),
    /// Run a pipeline.
    Run(Run),
    /// List the views of a running daemon or a stopped store.
    Views(Reader),
    /// Print the row of a key.
    Get(Get),
    /// Print a committed view in key order, one JSON object a line: two runs are equal when their dumps are.
    Dump(View),
    /// Answer an SQL query over the views of a running daemon or a stopped store.
    Sql(Sql),
    /// Print a view's changes as they happen.
    Tail(Tail),
    /// Show how a running daemon fares, kept current.
    Top(Top),
    /// Print the records that could not be processed.
    Faults(Faults),
    /// Walk every checksum and digest of a stopped store.
    Verify(Verify),
    /// Write down how a running daemon and its machine fare, for whoever is asked for help: no rows, no secrets.
    Bundle(Bundle),
    /// Have a running daemon copy its store, as it is now, while it goes on.
    Checkpoint(Checkpoint),
    /// Make a store of a checkpoint, or of the store of a stopped daemon, and verify it.
    Restore(Restore),
    /// Draw a token for the API, and print it with its line for the file of tokens.
    Token(Token),
    /// Learn from a recorded history what a pipeline begins with.
    #[command(subcommand)]
    Train(Train),
    /// Measure, one JSON line a figure.
    Bench(Bench),
    /// Print a page of the reference that is generated from the program.
    Manual(Manual),
}

/// `thalweg check`.
#[derive(Debug, Args)]
#[command(after_long_help = CHECK_HELP)]
pub struct Check {
    /// The pipeline file.
    pub file: PathBuf,
    /// Print mistakes and how the tests went as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Do not run the tests in the file; they are still checked for mistakes.
    #[arg(long)]
    pub no_tests: bool,
}

const CHECK_HELP: &str = "\
Nothing is run while there is a mistake. Each test in the file (`[[tests]]`: rows given to sources, rows expected of
views) runs through the engine into a temporary store, on one worker and on two, in epochs of one row and of many; no
source is opened. Of a test that fails the rows that are missing or unexpected are printed, one JSON object a line.

Exit codes: 0 all is well; 1 a test failed; 2 the file has mistakes or cannot be read.";

/// `thalweg explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The pipeline file.
    pub file: PathBuf,
    /// How to draw it.
    #[arg(long, value_enum, default_value = "text")]
    pub format: ExplainFormat,
}

/// How `explain` draws a plan.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ExplainFormat {
    /// Text.
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
}

/// `thalweg infer`.
#[derive(Debug, Args)]
pub struct Infer {
    /// A data file: CSV, NDJSON, Parquet or Arrow IPC, plain or compressed.
    pub file: PathBuf,
}

/// `thalweg run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The pipeline file.
    pub file: PathBuf,
    /// The folder of the store; made if it is missing.
    #[arg(long)]
    pub data: PathBuf,
    /// The address of the REST API; `none` for no API.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: Listen,
    /// The file of tokens a request needs one of, `name role sha256:HEX` a line; read again when it changes.
    #[arg(long)]
    pub tokens: Option<PathBuf>,
    /// Encrypt connections: the certificate and those that vouch for it, PEM; read again when it changes.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, PEM, not encrypted; read again when it changes.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve everyone who reaches an address that is not of this machine alone.
    #[arg(long, conflicts_with = "tokens")]
    pub listen_without_auth: bool,
    /// Timely workers. No result depends on it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// End once every source has ended and the last epoch is durable.
    #[arg(long)]
    pub exit_at_end: bool,
    /// How to log on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub struct Listen(pub Option<SocketAddr>);

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        match text {
            "none" => Ok(Listen(None)),
            text => text.parse().map(|a| Listen(Some(a))).map_err(|_| "expected ADDRESS:PORT or `none`".to_owned()),
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line a person reads.
    Text,
    /// One JSON object a line.
    Json,
}

/// A running daemon. One that needs a token is sent the one in THALWEG_TOKEN.
#[derive(Debug, Args)]
pub struct Server {
    /// A running daemon.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The certificates that vouch for an https daemon, PEM, instead of those browsers trust.
    #[arg(long)]
    pub ca: Option<PathBuf>,
}

/// Where a reading command reads.
#[derive(Debug, Args)]
pub struct From {
    /// A running daemon.
    #[command(flatten)]
    pub server: Server,
    /// The store of a stopped daemon instead.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// A command that only reads.
#[derive(Debug, Args)]
pub struct Reader {
    /// Where from.
    #[command(flatten)]
    pub store: From,
}

/// `thalweg faults`.
#[derive(Debug, Args)]
pub struct Faults {
    /// Where from.
    #[command(flatten)]
    pub store: From,
    /// Of this source alone.
    #[arg(long)]
    pub source: Option<String>,
    /// With this reason alone.
    #[arg(long)]
    pub reason: Option<String>,
}

/// `thalweg dump`.
#[derive(Debug, Args)]
pub struct View {
    /// Where from.
    #[command(flatten)]
    pub store: From,
    /// The view, or a table.
    #[arg(long)]
    pub view: String,
    /// As of this epoch instead of the newest.
    #[arg(long)]
    pub as_of: Option<u64>,
}

/// `thalweg get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Where from.
    #[command(flatten)]
    pub store: From,
    /// As of this epoch instead of the newest.
    #[arg(long)]
    pub as_of: Option<u64>,
    /// The view, or a table.
    pub view: String,
    /// The key's cells, in key order.
    #[arg(required = true)]
    pub key: Vec<String>,
}

/// `thalweg sql`.
#[derive(Debug, Args)]
#[command(after_long_help = SQL_HELP)]
pub struct Sql {
    /// Where from.
    #[command(flatten)]
    pub store: From,
    /// As of this epoch instead of the newest.
    #[arg(long)]
    pub as_of: Option<u64>,
    /// How to print the rows.
    #[arg(long, value_enum, default_value = "ndjson")]
    pub format: RowFormat,
    /// The query: one SELECT, WITH, VALUES or EXPLAIN.
    pub query: String,
}

const SQL_HELP: &str = "\
Tables are the views by their names, as `thalweg views` lists them; `SELECT * FROM information_schema.columns` lists their
columns. Names are case-sensitive. The answer is whole or refused: at most 100000 rows, 64 MiB and 30 seconds.";

/// How `sql` prints rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// One JSON object a line.
    Ndjson,
    /// One JSON object with the epoch, the columns and the rows.
    Json,
    /// CSV with a header line.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl RowFormat {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            RowFormat::Ndjson => "application/x-ndjson",
            RowFormat::Json => "application/json",
            RowFormat::Csv => "text/csv",
            RowFormat::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// `thalweg tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// A running daemon.
    #[command(flatten)]
    pub server: Server,
    /// Go on after this change (`epoch:seq`).
    #[arg(long)]
    pub after: Option<String>,
    /// Print the rows there are first.
    #[arg(long, conflicts_with = "after")]
    pub snapshot: bool,
    /// End after this many changes.
    #[arg(long)]
    pub changes: Option<u64>,
    /// The view, or a table.
    pub view: String,
}

/// `thalweg top`.
#[derive(Debug, Args)]
pub struct Top {
    /// The running daemon.
    #[command(flatten)]
    pub server: Server,
    /// Seconds from page to page; rates are of that time.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub every: f64,
    /// Print one page and end.
    #[arg(long)]
    pub once: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s: &f64| (0.1..=3_600.0).contains(s));
    seconds.ok_or_else(|| "expected seconds, from 0.1 to 3600".to_owned())
}

/// `thalweg bundle`.
#[derive(Debug, Args)]
pub struct Bundle {
    /// The running daemon.
    #[command(flatten)]
    pub server: Server,
    /// The folder of its store: how its files are laid out, and RocksDB's own log, come along.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// The file its log goes to: the end of it comes along.
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// The file to write, a gzipped tar archive; there must be nothing yet.
    #[arg(long, default_value = "thalweg-bundle.tar.gz")]
    pub out: PathBuf,
}

/// `thalweg verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The folder of the store.
    #[arg(long)]
    pub data: PathBuf,
}

/// `thalweg checkpoint`.
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// What it shall be called: the copy is the folder `checkpoints/NAME` of the store.
    pub name: String,
    /// The running daemon.
    #[command(flatten)]
    pub server: Server,
}

/// `thalweg restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The folder of the checkpoint, which stays as it is.
    pub from: PathBuf,
    /// The folder of the new store; there must be nothing yet.
    #[arg(long)]
    pub data: PathBuf,
}

/// `thalweg token`.
#[derive(Debug, Args)]
#[command(after_long_help = TOKEN_HELP)]
pub struct Token {
    /// Whose it is: the name in the file.
    #[arg(long)]
    pub name: String,
    /// What its holder may do; each role may do what those before it may.
    #[arg(long, value_parser = ["read", "ingest", "admin"])]
    pub role: String,
}

const TOKEN_HELP: &str = "\
Prints two lines: the token, which is kept nowhere, and the line for the file that `thalweg run --tokens` reads, which
holds its SHA-256. Give the token to its holder; the commands that ask a daemon send the one in THALWEG_TOKEN.";

/// `thalweg train`.
#[derive(Debug, Subcommand)]
pub enum Train {
    /// An offline value function for `td_value`, by dynamic programming over (time slot, cell) or by a network.
    Value(TrainValue),
}

/// `thalweg train value`.
#[derive(Debug, Args)]
#[command(after_long_help = TRAIN_VALUE_HELP)]
pub struct TrainValue {
    /// A CSV file of transitions, with a header.
    #[arg(required_unless_present = "pipeline", conflicts_with = "pipeline")]
    pub input: Option<PathBuf>,
    /// Where to write the value function.
    #[arg(long)]
    pub out: PathBuf,
    /// A pipeline file: transitions are what reaches --step when the pipeline is run on --history, and everything the step
    /// says (cells, discount, its unit, local time) is as there.
    #[arg(long, requires_all = ["step", "history"], conflicts_with = "columns")]
    pub pipeline: Option<PathBuf>,
    /// The step of `td_value` that is to load the value function. What its `offline` names need not be there.
    #[arg(long, requires = "pipeline")]
    pub step: Option<String>,
    /// What a source brought, as a file of its records (.csv, .ndjson, .parquet or .arrow, perhaps packed); SOURCE=FILE where
    /// the step reads from several. May be given several times.
    #[arg(long, requires = "pipeline", value_parser = history)]
    pub history: Vec<(Option<String>, PathBuf)>,
    /// The column of the step's input that says how many seconds pass from a transition's event time to its end, where the
    /// step's `duration` counts some of them otherwise.
    #[arg(long, requires = "pipeline")]
    pub elapsed: Option<String>,
    /// Which columns say what.
    #[command(flatten)]
    pub columns: Option<TrainColumns>,
    /// How long a slot of the day is, in seconds.
    #[arg(long, default_value_t = 600)]
    pub slot_secs: u32,
    /// Spread rewards over their durations, discounted there (Xu et al. 2018).
    #[arg(long)]
    pub spread: bool,
    /// How often dynamic programming goes through the transitions of a slot, if some of them end in it.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub sweeps: u16,
    /// Learn by a network instead of dynamic programming (after CVNet, Tang et al. 2019).
    #[arg(long)]
    pub network: bool,
    /// The sides of the network's tiles, in the unit of the coordinates; without places it learns by the state's key alone
    /// [default: 1, 3 and 9 times --tile-size].
    #[arg(long, value_delimiter = ',')]
    pub network_tiles: Vec<f64>,
    /// Steps of the network, of 64 transitions each.
    #[arg(long, default_value_t = 20_000, requires = "network")]
    pub steps: u64,
    /// The weight of the bound of the network's Lipschitz constant.
    #[arg(long, default_value_t = 1e-4, requires = "network")]
    pub lipschitz: f64,
    /// What the network's draws depend on.
    #[arg(long, default_value_t = 1, requires = "network")]
    pub seed: u64,
    /// Steps from checkpoint to checkpoint.
    #[arg(long, default_value_t = 1_000, requires = "network")]
    pub checkpoint_steps: u64,
}

/// Which columns of a CSV file say what, and how they count.
#[derive(Debug, Args)]
#[group(id = "columns")]
pub struct TrainColumns {
    /// The column of the time a transition began: RFC 3339, a date and time of UTC, or microseconds since 1970.
    #[arg(long, required_unless_present = "pipeline")]
    pub at: Option<String>,
    /// The columns of the state that is left, with commas between them.
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["pipeline", "h3"])]
    pub state: Vec<String>,
    /// Those of the state that is reached; empty cells end the episode.
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["pipeline", "h3"])]
    pub next_state: Vec<String>,
    /// The column of the reward.
    #[arg(long, required_unless_present = "pipeline")]
    pub reward: Option<String>,
    /// The column of the duration, in seconds.
    #[arg(long, required_unless_present = "pipeline")]
    pub duration: Option<String>,
    /// The column of the seconds as which a duration is discounted [default: --duration]
    #[arg(long)]
    pub counted: Option<String>,
    /// The discount of a unit of time.
    #[arg(long, required_unless_present = "pipeline")]
    pub gamma: Option<f64>,
    /// The unit of time, in seconds [default: 600]
    #[arg(long)]
    pub unit_secs: Option<f64>,
    /// Local time less UTC [default: +00:00]
    #[arg(long, allow_hyphen_values = true)]
    pub utc_offset: Option<String>,
    /// The side of a tile; with it places are wanted.
    #[arg(long)]
    pub tile_size: Option<f64>,
    /// The resolutions of hexagons of H3, from fine to coarse; a state is then its place alone, latitude and longitude.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["state", "next_state", "tile_size"])]
    pub h3: Vec<i64>,
    /// The two columns of the coordinates of the state that is left.
    #[arg(long, value_delimiter = ',')]
    pub place: Vec<String>,
    /// Those of the state that is reached; with --h3 empty cells end the episode.
    #[arg(long, value_delimiter = ',')]
    pub next_place: Vec<String>,
}

/// `SOURCE=FILE`, or a file.
fn history(text: &str) -> Result<(Option<String>, PathBuf), String> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    Ok(match text.split_once('=').filter(|(name, _)| is_name(name)) {
        Some((name, file)) => (Some(name.to_owned()), file.into()),
        None => (None, text.into()),
    })
}

const TRAIN_VALUE_HELP: &str = "\
Without --pipeline the discount, its unit, tiles or hexagons and the order of the key's columns must be those of the step that is
to load the file. With it they are; transitions begin at their event time, and what the pipeline's steps before make of the
history is what is learned from, for example how much of a duration counts. Rows that make no transition are counted by reason and left out. Transitions are taken in the order of the file, and
the same file gives the same bytes. A run that is broken off leaves no file. Without --network it begins anew, for the
programming is one pass; with it, it goes on from its last checkpoint, OUT.checkpoint, which the same command finds, and
ends with the bytes of a run that was never broken off. The checkpoint goes when the value function is there.

A network knows every cell the file names in every slot; dynamic programming knows what was recorded.";

/// `thalweg bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Which; without one they are listed.
    pub name: Option<String>,
    /// JSON lines only.
    #[arg(long)]
    pub json: bool,
    /// Fewer and smaller runs.
    #[arg(long)]
    pub quick: bool,
    /// Where to put what the bench writes; removed afterwards.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// The Kafka cluster of the bench `kafka`.
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
}

/// `thalweg manual`.
#[derive(Debug, Args)]
pub struct Manual {
    /// Which page.
    #[arg(value_enum)]
    pub page: Page,
}

/// The generated pages.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Page {
    /// `docs/operators.md`.
    Operators,
    /// `docs/api.md`.
    Api,
}
