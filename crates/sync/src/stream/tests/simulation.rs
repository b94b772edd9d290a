//! One control plane and several data planes over connections that stall and break at any byte, with restarts of both sides.
//! Time is virtual; a seed gives one run.

use std::collections::VecDeque;

use cardinal_base::{Rng as _, SeededRng};

use super::*;

const SEEDS: u64 = 2_000;
const STEPS: usize = 80;
/// Threads that share the seeds.
const THREADS: u64 = 2;
const CLIENTS: usize = 3;
/// Bytes that a connection holds; a side with more to send waits.
const WINDOW: usize = 600;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    in_flight: VecDeque<u8>,
    arrived: Vec<u8>,
}

impl Pipe {
    fn has_room(&self) -> bool {
        self.in_flight.len() < WINDOW
    }

    fn send(&mut self, message: &impl prost::Message) {
        let bytes = message.encode_to_vec();
        self.in_flight.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        self.in_flight.extend(bytes);
    }

    /// Moves some bytes; gives the messages that are complete.
    fn deliver<M: prost::Message + Default>(&mut self, count: usize) -> Vec<M> {
        self.arrived.extend(self.in_flight.drain(..count.min(self.in_flight.len())));
        let mut messages = Vec::new();
        while let Some((length, rest)) = self.arrived.split_first_chunk::<4>() {
            let Some(bytes) = rest.get(..u32::from_be_bytes(*length) as usize) else { break };
            messages.push(M::decode(bytes).unwrap());
            self.arrived.drain(..4 + bytes.len());
        }
        messages
    }
}

struct Connection {
    server: Server,
    up: Pipe,
    down: Pipe,
}

struct DataPlane {
    client: Client,
    connection: Option<Connection>,
    reconnect: Reconnect,
    since: Tick,
    is_partitioned: bool,
    /// What the engine has not finished to apply.
    applying: Option<Received>,
    served: Option<Received>,
}

/// What the store of the control plane has: it outlives the process.
struct Store(Vec<(u64, Arc<Ir>, Secrets)>);

struct World {
    rng: SeededRng,
    now: Tick,
    store: Store,
    history: History,
    planes: Vec<DataPlane>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let plane = |number: usize, rng: &mut SeededRng| DataPlane {
            client: Client::new(ClientOptions::new(node(number as u128)), Held::default()),
            connection: None,
            reconnect: Reconnect::new(1, rng),
            since: Tick::default(),
            is_partitioned: false,
            applying: None,
            served: None,
        };
        let planes = (0..CLIENTS).map(|number| plane(number, &mut rng)).collect();
        Self { rng, now: Tick::default(), store: Store(Vec::new()), history: History::new(HISTORY), planes }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn pass(&mut self, ms_max: u64) {
        self.now = self.now.plus_millis(self.rng.below(ms_max));
    }

    fn edit(&mut self) {
        let (number, mut ir, mut secrets) = match self.store.0.last() {
            Some((number, ir, secrets)) => (*number, Ir::clone(ir), secrets.clone()),
            None => Default::default(),
        };
        for _ in 0..=self.below(3) {
            let at = id(u128::from(self.below(12)));
            match self.below(3) {
                0 => drop(ir.groups.remove(&at)),
                1 => drop(ir.groups.insert(at, group(if self.below(2) == 0 { "a" } else { "b" }))),
                _ => drop(ir.clusters.insert(at, Cluster::default())),
            }
        }
        let secret = self.below(4).to_string();
        let reference = SecretKey::default().reference(&secret);
        if !secrets.remove(reference) {
            secrets.add(&SecretKey::default(), &secret);
        }
        let number = number + 1 + self.below(2);
        self.store.0.push((number, Arc::new(ir), secrets));
    }

    /// The control plane sees the store as it is, or was.
    fn publish(&mut self, behind: usize) {
        let Some(at) = self.store.0.len().checked_sub(1 + behind) else { return };
        let (number, ir, secrets) = &self.store.0[at];
        // One that it has published before is refused.
        self.history.publish(ir, secrets.clone(), *number).ok();
    }

    fn step(&mut self) {
        let at = usize::try_from(self.below(CLIENTS as u64)).unwrap();
        match self.below(100) {
            0..8 => {
                self.edit();
                self.publish(0);
            }
            8..10 => self.cut(at),
            10..11 => self.restart_server(),
            11..12 => self.restart_client(at),
            12..14 => self.planes[at].is_partitioned ^= true,
            14..30 => self.pass(900),
            30..31 => self.pass(40_000),
            31..35 => self.publish(0),
            _ => {}
        }
        let count = usize::try_from(self.below(400)).unwrap();
        self.run(at, count);
        if self.below(3) == 0 {
            self.apply(at);
        }
        self.check(at);
    }

    fn restart_server(&mut self) {
        (0..CLIENTS).for_each(|at| self.cut(at));
        self.history = History::new(HISTORY);
        let behind = usize::try_from(self.below(3)).unwrap();
        self.publish(behind);
    }

    /// The node starts with what it served last.
    fn restart_client(&mut self, at: usize) {
        self.cut(at);
        let plane = &mut self.planes[at];
        plane.applying = None;
        let held = plane.served.as_ref().map_or_else(Held::default, |served| {
            Held::restored(&served.ir, served.secrets.clone(), served.id, served.is_exact)
        });
        plane.client = Client::new(ClientOptions::new(node(at as u128)), held);
    }

    fn cut(&mut self, at: usize) {
        let plane = &mut self.planes[at];
        if plane.connection.take().is_some() {
            plane.client.disconnected();
            plane.reconnect.failed(Some(plane.since), self.now, &mut self.rng);
        }
    }

    /// Moves messages of one data plane, and so many of their bytes.
    fn run(&mut self, at: usize, count: usize) {
        let (now, plane) = (self.now, &mut self.planes[at]);
        if plane.connection.is_none() && !plane.is_partitioned && now >= plane.reconnect.at() {
            let options = ServerOptions { part_bytes: 150, ..ServerOptions::new(true) };
            let server = Server::new(options, now);
            plane.connection = Some(Connection { server, up: Pipe::default(), down: Pipe::default() });
            plane.since = now;
            plane.client.connected(now);
        }
        let Some(Connection { server, up, down }) = &mut plane.connection else { return };
        let mut is_broken = plane.client.check(now).is_err() || server.check(now).is_err();
        while up.has_room()
            && let Some(request) = plane.client.poll(now)
        {
            up.send(&request);
        }
        while down.has_room()
            && let Some(response) = server.poll(&self.history)
        {
            down.send(&response);
        }
        if !plane.is_partitioned {
            for request in up.deliver(count) {
                is_broken |= server.receive(request, &self.history, now).is_err();
            }
            for response in down.deliver(count) {
                is_broken |= plane.client.receive(response, now).is_err();
            }
        }
        if is_broken {
            self.cut(at);
        }
    }

    /// The engine begins or ends to apply a generation.
    fn apply(&mut self, at: usize) {
        let refuses = self.below(8) == 0;
        let plane = &mut self.planes[at];
        let Some(received) = plane.applying.take() else {
            plane.applying = plane.client.take();
            return;
        };
        let rejected = vec![Rejection::new(cardinal_ir::RecordKind::Route, id(1), "no".to_owned())];
        plane.client.acknowledge(&received, refuses.then(|| "no".to_owned()), rejected);
        if !refuses {
            let before = plane.served.replace(received);
            let served = plane.served.as_ref().unwrap();
            assert!(before.is_none_or(|before| before.id.number <= served.id.number), "it is not older");
        }
    }

    fn check(&self, at: usize) {
        let plane = &self.planes[at];
        if let Some(served) = &plane.served {
            let published = self.store.0.iter().find(|(number, ..)| *number == served.id.number);
            let (_, ir, secrets) = published.expect("a generation that was published");
            assert_eq!((&*served.ir, &served.secrets), (&**ir, secrets));
        }
        if let Some(connection) = &plane.connection {
            for pipe in [&connection.up, &connection.down] {
                assert!(pipe.in_flight.len() + pipe.arrived.len() < 3 * WINDOW + 1_000);
            }
        }
    }

    /// Without faults, all data planes come to serve the newest generation.
    fn heal(&mut self) {
        self.edit();
        self.publish(0);
        let newest = self.store.0.last().unwrap().0;
        for round in 0.. {
            assert!(round < 300, "not all data planes have generation {newest}");
            self.now = self.now.plus_millis(4_000);
            for at in 0..CLIENTS {
                self.planes[at].is_partitioned = false;
                self.run(at, usize::MAX);
                self.apply(at);
                self.check(at);
            }
            // What the engine has refused, it is not offered again.
            let is_current = |plane: &DataPlane| plane.client.report().number == newest && plane.applying.is_none();
            let reported = |plane: &DataPlane| {
                let server = plane.connection.as_ref().map(|connection| &connection.server);
                server.is_some_and(|server| server.report() == plane.client.report())
            };
            if self.planes.iter().all(|plane| is_current(plane) && reported(plane)) {
                return;
            }
        }
    }
}

#[test]
fn data_planes_serve_complete_generations_and_converge() {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || (thread..SEEDS).step_by(usize::try_from(THREADS).unwrap()).for_each(simulate));
        }
    });
}

fn simulate(seed: u64) {
    let run = std::panic::AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.heal();
    });
    if let Err(panic) = std::panic::catch_unwind(run) {
        eprintln!("the seed was {seed}");
        std::panic::resume_unwind(panic);
    }
}
