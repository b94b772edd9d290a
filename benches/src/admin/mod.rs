//! The administrative side at scale: loading many entities, the way of an edit to a data plane, many data planes.
//!
//! Unlike the scenarios, nothing is compared and nothing is pinned to a core: the real program runs in its roles, and this
//! program is its clients. Start at [`run`]; [`page`] writes the section of the page.

mod edits;
mod entities;
mod http;
mod node;
mod page;
mod planes;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use self::edits::Edits;
use self::entities::Count;
use self::node::{Cost, Node};
use self::planes::Planes;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Routes, and consumers with a key each
    #[arg(long, default_value_t = 100_000)]
    entities: usize,
    /// Connections on which entities are written one by one
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Edits of a route, with each size of the configuration
    #[arg(long, default_value_t = 300)]
    edits: usize,
    /// Simulated data planes
    #[arg(long, default_value_t = 1_000)]
    planes: usize,
    /// Routes that these have
    #[arg(long, default_value_t = 1_000)]
    plane_routes: usize,
    /// Part to measure; can be given several times [default: all]
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// The cardinal program [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Write the section of docs/benchmarks.md
    #[arg(long, conflicts_with = "part")]
    write: bool,
    /// What else the machine did, for the page
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    OneByOne,
    Batches,
    File,
    Edits,
    Planes,
}

/// What was measured. Parts that were not are `None`.
#[derive(Debug, Default)]
struct Measured {
    entities: usize,
    connections: usize,
    edit_count: usize,
    plane_routes: usize,
    one_by_one: Option<Loaded>,
    batches: Option<Loaded>,
    file: Option<Cost>,
    /// With few entities, and with all.
    edits: Vec<(usize, Edits, Cost, Cost)>,
    planes: Option<Planes>,
}

/// A database that was filled.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    cost: Cost,
    database_mib: f64,
}

/// Entities of the small configuration.
const FEW: usize = 100;

pub(crate) fn run(args: &Args, docs: &Path) -> Result<()> {
    let this = std::env::current_exe()?;
    let program = args.binary.clone().unwrap_or_else(|| this.with_file_name("cardinal"));
    ensure!(program.exists(), "there is no {}: build it or name it with --binary", program.display());
    let wants = |part: Part| args.part.is_empty() || args.part.contains(&part);
    let all = Count { routes: args.entities, consumers: args.entities };
    let mut measured = Measured {
        entities: args.entities,
        connections: args.connections,
        edit_count: args.edits,
        plane_routes: args.plane_routes,
        ..Measured::default()
    };
    if wants(Part::OneByOne) {
        let loaded = load(&program, |node| entities::one_by_one(node, all, args.connections))?;
        measured.one_by_one = Some(shown("one by one", loaded.1));
    }
    if wants(Part::Batches) && !wants(Part::Edits) {
        measured.batches = Some(shown("batches", load(&program, |node| entities::in_batches(node, all))?.1));
    }
    if wants(Part::File) {
        measured.file = Some(shown("file", by_file(&program, all)?));
    }
    if wants(Part::Edits) {
        let few = Count { routes: FEW, consumers: FEW };
        let (_few, small) = edited(&program, few, args.edits)?;
        let (loaded, large) = edited(&program, all, args.edits)?;
        measured.batches = Some(loaded);
        measured.edits = vec![shown("edits", small), shown("edits", large)];
    }
    if wants(Part::Planes) {
        let some = Count { routes: args.plane_routes, consumers: 0 };
        let (control, _) = load(&program, |node| entities::in_batches(node, some))?;
        measured.planes = Some(shown("data planes", planes::run(&control, args.planes, args.plane_routes, 20)?));
    }
    let section = page::section(&measured, &crate::machine::facts()?, args.note.as_deref());
    println!("{section}");
    if args.write { page::write(docs, &section) } else { Ok(()) }
}

/// Tells of each part as soon as it is measured.
fn shown<T: std::fmt::Debug>(what: &str, value: T) -> T {
    eprintln!("{what}: {value:?}");
    value
}

/// Fills the database of a control plane, until it serves what it has.
fn load(program: &Path, work: impl FnOnce(&Node) -> Result<()>) -> Result<(Node, Loaded)> {
    let mut node = Node::control_plane(program)?;
    node.ready()?;
    let cost = node.cost(|| {
        work(&node)?;
        node.caught_up()
    })?;
    let database_mib = node.database_mib()?;
    Ok((node, Loaded { cost, database_mib }))
}

fn by_file(program: &Path, count: Count) -> Result<Cost> {
    let (since, file) = (std::time::Instant::now(), entities::file(count));
    let making = since.elapsed().as_secs_f64();
    let mut node = Node::with_file(program, &file)?;
    node.ready()?;
    let cost = node.cost_since(since, 0)?;
    Ok(Cost { wall_s: cost.wall_s - making, ..cost })
}

fn edited(program: &Path, count: Count, edits: usize) -> Result<(Loaded, (usize, Edits, Cost, Cost))> {
    let (control, loaded) = load(program, |node| entities::in_batches(node, count))?;
    let since = std::time::Instant::now();
    let mut data = Node::data_plane(&control)?;
    data.ready()?;
    let start = data.cost_since(since, 0)?;
    shown("a data plane has the configuration", start);
    let edits = edits::run(&control, &data, edits)?;
    Ok((loaded, (count.routes, edits, control.cost(|| Ok(()))?, data.cost(|| Ok(()))?)))
}
